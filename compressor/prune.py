"""Prune: replay a plan on a model, layer by layer, fitting each change to the original's outputs.

Two streams run side by side: the original's activations, and those of the model as compressed so
far. Every matrix that changes is fitted so that the compressed residual stream comes as near to the
original's as it can, errors of earlier layers included.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from compressor.checkpoint import LayerShape
from compressor.families import TowerSpec
from compressor.ffn import factor_linear
from compressor.heads import fit_linear, prune_heads
from compressor.loading import linear_at, set_module
from compressor.moments import Moments
from compressor.streams import Stream, advance, look


@dataclass
class _Pair:
    """One layer at work: what the original's did, and the compressed block and stream."""

    spec: TowerSpec
    ridge: float
    targets: list[dict[str, Tensor]]
    """The original's activations by batch: inputs by module path, and the layer's output."""
    block: nn.Module
    stream: Stream

    def batches(self, path: str) -> Iterator[tuple[dict[str, Tensor], dict[str, Tensor], Tensor]]:
        """(the original's activations, ours up to the module at `path`, token weights)."""
        parts = zip(
            self.targets,
            self.stream.hidden,
            self.stream.arguments,
            self.stream.weights,
            strict=True,
        )
        for theirs, hidden, arguments, weights in parts:
            paths = [self.spec.ffn_norm, path] if path != self.spec.o else [path]
            ours, _ = look(self.block, hidden, arguments, *paths, stop=True)
            yield theirs, ours | {BLOCK_INPUT: hidden}, weights


BLOCK_INPUT, BLOCK_OUTPUT = "input", "output"


def prune_tower(
    model: nn.Module,
    spec: TowerSpec,
    shapes: tuple[LayerShape, ...],
    original_stream: Stream,
    stream: Stream,
    *,
    ridge: float,
    progress: Callable[[float], None] = lambda share: None,
) -> None:
    """Compress a tower's layers in place, as `shapes` say; both streams end behind the last."""
    layers = model.get_submodule(spec.layers)
    assert isinstance(layers, nn.ModuleList)
    for number, shape in enumerate(shapes):
        block = copy.deepcopy(layers[number])
        targets = _run_original(layers[number], spec, original_stream)
        pair = _Pair(spec, ridge, targets, block, stream)
        if len(shape.heads) < spec.heads:
            _prune_attention(pair, shape)
        _factor_inputs(pair, layers[number], shape)
        _factor_output(pair, shape)
        advance(block, stream)
        layers[number] = block
        progress((number + 1) / len(shapes))


def _run_original(block: nn.Module, spec: TowerSpec, stream: Stream) -> list[dict[str, Tensor]]:
    """Move the original's stream past a block, keeping what the fits aim at."""
    found = []
    for i, (hidden, arguments) in enumerate(zip(stream.hidden, stream.arguments, strict=True)):
        seen, output = look(block, hidden, arguments, spec.ffn_norm, spec.ffn_inputs[0])
        found.append(seen | {BLOCK_OUTPUT: output})
        stream.hidden[i] = output
    return found


def _prune_attention(pair: _Pair, shape: LayerShape) -> None:
    """Remove heads and fit the output matrix: target is the original stream after attention."""
    spec = pair.spec
    prune_heads(pair.block, spec, shape)
    moments = Moments(constant=linear_at(pair.block, spec.o).bias is not None)
    for theirs, ours, weights in pair.batches(spec.o):
        moments.add(ours[spec.o], weights, theirs[spec.ffn_norm] - ours[BLOCK_INPUT])
    _fit(pair, spec.o, moments, rank=None)


def _factor_inputs(pair: _Pair, original: nn.Module, shape: LayerShape) -> None:
    """Factor the matrices that read the stream: target is what the original's give."""
    first = pair.spec.ffn_inputs[0]
    ranks = {path: shape.ranks[path.rsplit(".", 1)[-1]] for path in pair.spec.ffn_inputs}
    factored = [path for path, rank in ranks.items() if rank is not None]
    linears = {path: linear_at(original, path) for path in factored}
    moments = {path: Moments(constant=linears[path].bias is not None) for path in factored}
    if factored:
        for theirs, ours, weights in pair.batches(first):
            for path in factored:
                with torch.inference_mode():
                    target = linears[path](theirs[first])
                moments[path].add(ours[first], weights, target)
    for path in factored:
        _fit(pair, path, moments[path], ranks[path])


def _factor_output(pair: _Pair, shape: LayerShape) -> None:
    """Factor the matrix that writes the stream: target is the original stream behind the layer."""
    spec = pair.spec
    rank = shape.ranks[spec.ffn_output.rsplit(".", 1)[-1]]
    if rank is None:
        return
    moments = Moments(constant=linear_at(pair.block, spec.ffn_output).bias is not None)
    for theirs, ours, weights in pair.batches(spec.ffn_output):
        moments.add(ours[spec.ffn_output], weights, theirs[BLOCK_OUTPUT] - ours[spec.ffn_norm])
    _fit(pair, spec.ffn_output, moments, rank)


def _fit(pair: _Pair, path: str, moments: Moments, rank: int | None) -> None:
    """Replace the linear at `path` by the one fitted to `moments`, at a rank."""
    linear = linear_at(pair.block, path)
    prior = linear.weight.data.double()
    if moments.constant:
        prior = torch.cat([prior, linear.bias.data.double()[:, None]], dim=1)
    gram = moments.gram
    fitted = fit_linear(gram, moments.cross, prior, ridge=pair.ridge, constant=moments.constant)
    if not moments.constant:
        set_module(pair.block, path, factor_linear(fitted, None, gram, rank))
        return
    # With a bias the mean costs no rank: factor on the covariance, then let the bias absorb what
    # the factored matrix does to the mean.
    mean, weight = gram[:-1, -1], fitted[:, :-1]
    covariance = gram[:-1, :-1] - torch.outer(mean, mean)
    layer = factor_linear(weight, fitted[:, -1], covariance, rank)
    if rank is not None:
        product = layer.out_factor.weight.double() @ layer.in_factor.weight.double()  # type: ignore[union-attr,operator]
        layer.out_factor.bias.data += ((weight - product) @ mean).float()  # type: ignore[union-attr,operator]
    set_module(pair.block, path, layer)
