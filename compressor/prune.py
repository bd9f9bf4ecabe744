"""Prune: replay a plan on a model, layer by layer, fitting each change to the original's outputs.

Two streams run side by side: the original's activations, and those of the model as compressed so
far. Every matrix that changes is fitted so that the compressed residual stream comes as near to the
original's as it can, errors of earlier layers included.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import torch
from torch import Tensor, nn

from compressor.checkpoint import GATE_UP, QKV
from compressor.families import TowerSpec, leaf
from compressor.families.base import Attention
from compressor.ffn import factor_linear, joint_low_rank
from compressor.heads import (
    fit_linear,
    head_rows,
    keep_columns,
    keep_rows,
    make_linear,
    prune_heads,
    ridge_factor,
)
from compressor.loading import FactoredLinear, SharedFactorLinear, linear_at, set_module
from compressor.massive import MassiveLimit
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
        limit = MassiveLimit()
        for i in range(len(self.stream)):
            theirs, output = look(
                self.original, self.original_stream.read(i), self.original_stream.other(i),
                *needed, stop=bool(needed),
            )  # fmt: skip
            hidden = self.stream.read(i)
            seen = [paths[0]] if in_attention else [*after, paths[0]]
            ours, _ = look(self.block, hidden, self.stream.other(i), *seen, stop=True)
            weights = self.stream.weights[i].to(self.stream.device)
            if reading:
                with torch.inference_mode():
                    targets = [linear_at(self.original, p)(theirs[paths[0]]) for p in paths]
            elif in_attention:
                targets = [theirs[spec.ffn_norm] - hidden]
                weights = limit(theirs[spec.ffn_norm], weights)
            else:
                weights = limit(output, weights)
                targets = [output - ours[spec.ffn_norm] if attention else output]
            yield targets, ours[paths[0]], weights


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
    ranks = {path: layer.ranks.get(leaf(path)) for path in spec.matrices}
    factored = {p: r for p, r in ranks.items() if r is not None and p != spec.ffn_output}
    rows = dict.fromkeys(spec.ffn_inputs, layer.neurons)
    if (joint := layer.ranks.get(GATE_UP)) is not None:
        _fit_jointly(pair, spec.ffn_inputs, joint, layer.scales[GATE_UP], rows)
    elif factored:
        _fit(pair, factored, rows=rows)
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
    inputs = spec.projections[:-1]
    queries = tuple(head_rows(layer.heads, spec.head_dim).tolist())
    keys = tuple(head_rows(layer.kv_heads, spec.head_dim).tolist())
    rows = {p: queries if p == attention.q else keys for p in inputs} if cut else {}
    if (joint := layer.attention_ranks.get(QKV)) is not None:
        _fit_jointly(pair, inputs, joint, layer.scales[QKV], rows)
    elif reading:
        _fit(pair, reading, rows=rows)
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
    fitted = _least_squares(pair, list(ranks), rows)
    for each, (path, rank) in zip(fitted, ranks.items(), strict=True):
        set_module(pair.block, path, each.linear(rank))


def _fit_jointly(
    pair: _Pair,
    paths: Sequence[str],
    rank: int,
    scales: Sequence[float],
    rows: Mapping[str, tuple[int, ...]],
) -> None:
    """As `_fit`, with one input factor for all of the linears."""
    fitted = _least_squares(pair, paths, rows)
    weights = [each.weight for each in fitted]
    out_factors, in_factor = joint_low_rank(weights, scales, fitted[0].covariance(), rank)
    shared = make_linear(in_factor, None)
    for path, each, out_factor in zip(paths, fitted, out_factors, strict=True):
        bias = each.bias_beside(out_factor @ in_factor)
        set_module(pair.block, path, SharedFactorLinear(shared, make_linear(out_factor, bias)))


def _moments(
    pair: _Pair, paths: Sequence[str], rows: Mapping[str, tuple[int, ...]]
) -> dict[str, Moments]:
    """Of the one input of the linears at some paths with each one's target."""
    moments: dict[str, Moments] = {}
    first: dict[bool, Moments] = {}
    for path in paths:
        constant = linear_at(pair.block, path).bias is not None
        moments[path] = Moments(constant=constant, inputs_of=first.get(constant))
        first.setdefault(constant, moments[path])
    for targets, inputs, weights in pair.batches(paths):
        for path, target in zip(paths, targets, strict=True):
            wanted = target[..., list(rows[path])] if rows.get(path) else target
            moments[path].add(inputs, weights, wanted)
    return moments


@dataclass(frozen=True)
class Fitted:
    """What least squares found for a linear."""

    weight: Tensor
    bias: Tensor | None
    gram: Tensor
    """Of the inputs, with the constant 1 as the last where there is a bias."""

    def covariance(self) -> Tensor:
        """Of the inputs around their mean where there is a bias: with one, the mean costs no rank."""
        if self.bias is None:
            return self.gram
        mean = self._mean
        return self.gram[:-1, :-1].addr(mean, mean, alpha=-float(self.gram[-1, -1]))

    def bias_beside(self, product: Tensor) -> Tensor | None:
        """The bias that absorbs what a factored matrix, `product`, does to the mean."""
        if self.bias is None:
            return None
        return self.bias + (self.weight - product) @ self._mean

    @property
    def _mean(self) -> Tensor:
        """Of the inputs; the weights' sum, in the corner, is below 1 where positions are massive."""
        return self.gram[:-1, -1] / self.gram[-1, -1]

    def linear(self, rank: int | None) -> nn.Module:
        """The layer, at a rank."""
        if rank is None:
            return make_linear(self.weight, self.bias)
        layer = factor_linear(self.weight, self.bias, self.covariance(), rank)
        assert isinstance(layer, FactoredLinear)
        product = layer.out_factor.weight.double() @ layer.in_factor.weight.double()
        bias = self.bias_beside(product)
        if bias is not None:
            layer.out_factor.bias.data = bias.float()
        return layer


def _least_squares(
    pair: _Pair, paths: Sequence[str], rows: Mapping[str, tuple[int, ...]]
) -> list[Fitted]:
    """The weights at some paths, which have one input, that fit their targets."""
    moments, factors = _moments(pair, paths, rows), dict[bool, Tensor]()
    return [_fitted(pair, path, moments[path], factors) for path in paths]


def _fitted(pair: _Pair, path: str, moments: Moments, factors: dict[bool, Tensor]) -> Fitted:
    """Least squares; `factors` has those of the gram by whether a constant is among the inputs."""
    linear = linear_at(pair.block, path)
    prior = linear.weight.data.double()
    if moments.constant:
        prior = torch.cat([prior, linear.bias.data.double()[:, None]], dim=1)
    gram, constant = moments.gram, moments.constant
    if math.isinf(pair.ridge):
        found = prior
    else:
        if constant not in factors:
            factors[constant] = ridge_factor(gram, pair.ridge, constant=constant)
        found = fit_linear(gram, moments.cross, prior, factors[constant])
    if constant:
        return Fitted(found[:, :-1], found[:, -1], gram)
    return Fitted(found, None, gram)
