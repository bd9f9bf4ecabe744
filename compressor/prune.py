"""Prune: replay a plan on a model, layer by layer, fitting each change to the original's outputs.

Two streams run side by side: the original's activations, and those of the model as compressed so
far. Every matrix that changes is fitted so that the compressed residual stream comes as near to the
original's as it can, errors of earlier layers included.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import torch
from torch import Tensor, nn

from compressor.families import TowerSpec, leaf
from compressor.families.base import Attention
from compressor.ffn import factor_linear
from compressor.heads import fit_linear, head_rows, keep_columns, keep_rows, prune_heads
from compressor.loading import FactoredLinear, linear_at, set_module
from compressor.moments import Moments
from compressor.plan import PlannedLayer
from compressor.streams import Stream, look


@dataclass
class _Pair:
    """One layer at work: the original block and stream, and the compressed ones."""

    spec: TowerSpec
    ridge: float
    original: nn.Module
    original_stream: Stream
    block: nn.Module
    stream: Stream

    def batches(self, paths: Sequence[str]) -> Iterator[tuple[list[Tensor], Tensor, Tensor]]:
        """(targets of the modules at `paths`, our input of them, token weights), batch by batch.

        The modules have one input. The target of a matrix that writes the stream is what brings ours
        to the original's; of one that reads it, what the original's gives.
        """
        spec, attention = self.spec, self.spec.attention
        after = [spec.ffn_norm] if attention else []
        in_attention, reading = paths[0] in spec.projections, paths[0] in spec.reading
        # Of the original no more is computed than the targets need; of its output, all.
        needed = [paths[0]] if reading else after if in_attention else []
        for i in range(len(self.stream)):
            theirs, output = look(
                self.original, self.original_stream.read(i), self.original_stream.other(i),
                *needed, stop=bool(needed),
            )  # fmt: skip
            hidden = self.stream.read(i)
            seen = [paths[0]] if in_attention else [*after, paths[0]]
            ours, _ = look(self.block, hidden, self.stream.other(i), *seen, stop=True)
            if reading:
                with torch.inference_mode():
                    targets = [linear_at(self.original, p)(theirs[paths[0]]) for p in paths]
            elif in_attention:
                targets = [theirs[spec.ffn_norm] - hidden]
            else:
                targets = [output - ours[spec.ffn_norm] if attention else output]
            yield targets, ours[paths[0]], self.stream.weights[i].to(self.stream.device)


def prune_layer(
    original: nn.Module,
    spec: TowerSpec,
    layer: PlannedLayer,
    original_stream: Stream,
    stream: Stream,
    *,
    ridge: float,
) -> nn.Module:
    """A compressed copy of a block, fitted; both streams are at the block and stay there.

    Args:
        original: the block, float32, on the streams' device.
        spec: its tower.
        layer: what stays of it.
        original_stream: the original's activations.
        stream: those of the model as compressed so far.
        ridge: of the least squares, relative.
    """
    block = copy.deepcopy(original)
    pair = _Pair(spec, ridge, original, original_stream, block, stream)
    if spec.attention is not None:
        _compress_attention(pair, spec.attention, layer)
    if layer.neurons:
        kept = torch.tensor(layer.neurons)
        for path in spec.ffn_inputs:
            keep_rows(block, path, kept)
        keep_columns(block, spec.ffn_output, kept)
    ranks = {path: layer.ranks[leaf(path)] for path in spec.matrices}
    factored = {p: r for p, r in ranks.items() if r is not None and p != spec.ffn_output}
    if factored:
        _fit(pair, factored, rows=dict.fromkeys(factored, layer.neurons))
    if ranks[spec.ffn_output] is not None or layer.neurons:
        _fit(pair, {spec.ffn_output: ranks[spec.ffn_output]})
    return block


def _compress_attention(pair: _Pair, attention: Attention, layer: PlannedLayer) -> None:
    """Cut heads and factor q, k and v, then fit the output matrix to what is left."""
    spec, cut = pair.spec, len(layer.heads) < pair.spec.heads
    if cut:
        prune_heads(pair.block, spec, attention, layer)
    ranks = {p: layer.attention_ranks.get(leaf(p)) for p in spec.projections}
    reading = {p: r for p, r in ranks.items() if r is not None and p != attention.o}
    if reading:
        queries = tuple(head_rows(layer.heads, spec.head_dim).tolist())
        keys = tuple(head_rows(layer.kv_heads, spec.head_dim).tolist())
        rows = {p: queries if p == attention.q else keys for p in reading}
        _fit(pair, reading, rows=rows if cut else {})
    if cut or layer.attention_ranks:
        _fit(pair, {attention.o: ranks[attention.o]})


def run_both(
    original: nn.Module, block: nn.Module, original_stream: Stream, stream: Stream
) -> None:
    """Move the streams of the original and of the compressed model behind a block."""
    for each, own in ((original, original_stream), (block, stream)):
        for i in range(len(own)):
            own.write(i, look(each, own.read(i), own.other(i))[1])


def _fit(
    pair: _Pair,
    ranks: Mapping[str, int | None],
    *,
    rows: Mapping[str, tuple[int, ...]] = MappingProxyType({}),
) -> None:
    """Replace the linears at some paths, which have one input, by those fitted to their targets.

    `rows` says which of a target's components are left of it, where not all are.
    """
    moments = {
        path: Moments(constant=linear_at(pair.block, path).bias is not None) for path in ranks
    }
    for targets, inputs, weights in pair.batches(list(ranks)):
        for path, target in zip(ranks, targets, strict=True):
            wanted = target[..., list(rows[path])] if rows.get(path) else target
            moments[path].add(inputs, weights, wanted)
    for path, rank in ranks.items():
        set_module(pair.block, path, _fitted(pair, path, moments[path], rank))


def _fitted(pair: _Pair, path: str, moments: Moments, rank: int | None) -> nn.Module:
    """The layer that fits the moments, at a rank."""
    linear = linear_at(pair.block, path)
    prior = linear.weight.data.double()
    if moments.constant:
        prior = torch.cat([prior, linear.bias.data.double()[:, None]], dim=1)
    gram = moments.gram
    fitted = fit_linear(gram, moments.cross, prior, ridge=pair.ridge, constant=moments.constant)
    if not moments.constant:
        return factor_linear(fitted, None, gram, rank)
    # With a bias the mean costs no rank: factor on the covariance, then let the bias absorb what
    # the factored matrix does to the mean.
    mean, weight = gram[:-1, -1], fitted[:, :-1]
    covariance = gram[:-1, :-1].addr(mean, mean, alpha=-1) if rank is not None else gram
    layer = factor_linear(weight, fitted[:, -1], covariance, rank)
    if isinstance(layer, FactoredLinear):
        product = layer.out_factor.weight.double() @ layer.in_factor.weight.double()
        layer.out_factor.bias.data += ((weight - product) @ mean).float()
    return layer
