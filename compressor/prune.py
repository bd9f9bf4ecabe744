"""Prune: replay a plan on a model, layer by layer, fitting each change to the original's outputs.

Two streams run side by side: the original's activations, and those of the model as compressed so
far. Every matrix that changes is fitted so that the compressed residual stream comes as near to the
original's as it can, errors of earlier layers included.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

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
    """One layer at work: the original block and stream, the compressed block and stream."""

    spec: TowerSpec
    ridge: float
    original: nn.Module
    original_stream: Stream
    block: nn.Module
    stream: Stream

    def batches(self) -> Iterator[tuple[tuple[Tensor, Any], tuple[Tensor, Any], Tensor]]:
        """(hidden, arguments) of the original and of the compressed stream, and token weights."""
        theirs = zip(self.original_stream.hidden, self.original_stream.arguments, strict=True)
        ours = zip(self.stream.hidden, self.stream.arguments, strict=True)
        yield from zip(theirs, ours, self.stream.weights, strict=True)


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
        original = layers[number]
        block = copy.deepcopy(original)
        pair = _Pair(spec, ridge, original, original_stream, block, stream)
        if len(shape.heads) < spec.heads:
            _prune_attention(pair, shape)
        _factor_ffn(pair, shape)
        advance(original, original_stream)
        advance(block, stream)
        layers[number] = block
        progress((number + 1) / len(shapes))


def _prune_attention(pair: _Pair, shape: LayerShape) -> None:
    """Remove heads and fit the output matrix: target is the original stream after attention."""
    spec = pair.spec
    prune_heads(pair.block, spec, shape)
    linear = linear_at(pair.block, spec.o)
    moments = Moments(constant=linear.bias is not None)
    for (h0, a0), (h1, a1), weights in pair.batches():
        after = look(pair.original, h0, a0, spec.ffn_norm, stop=True)[0][spec.ffn_norm]
        inputs = look(pair.block, h1, a1, spec.o, stop=True)[0][spec.o]
        moments.add(inputs, weights, after - h1)
    _fit(pair, spec.o, moments, rank=None)


def _factor_ffn(pair: _Pair, shape: LayerShape) -> None:
    """Factor the FFN's matrices: the input matrices first, then the output matrix behind them."""
    spec = pair.spec
    for path in spec.ffn_inputs:
        rank = shape.ranks[path.rsplit(".", 1)[-1]]
        if rank is None:
            continue
        target = linear_at(pair.original, path)
        moments = Moments(constant=target.bias is not None)
        for (h0, a0), (h1, a1), weights in pair.batches():
            theirs = look(pair.original, h0, a0, path, stop=True)[0][path]
            ours = look(pair.block, h1, a1, path, stop=True)[0][path]
            with torch.inference_mode():
                moments.add(ours, weights, target(theirs))
        _fit(pair, path, moments, rank)
    rank = shape.ranks[spec.ffn_output.rsplit(".", 1)[-1]]
    if rank is None:
        return
    linear = linear_at(pair.block, spec.ffn_output)
    moments = Moments(constant=linear.bias is not None)
    for (h0, a0), (h1, a1), weights in pair.batches():
        output = look(pair.original, h0, a0)[1]
        paths = (spec.ffn_norm, spec.ffn_output)
        seen = look(pair.block, h1, a1, *paths, stop=True)[0]
        moments.add(seen[spec.ffn_output], weights, output - seen[spec.ffn_norm])
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
