"""Calibrate: what flows through each layer of the original, as second moments.

One layer runs at a time over all calibration data; of each layer remain the covariance of its
attention heads' outputs, of its FFN's inputs and hidden units, and the energies of what attention,
FFN and residual stream carry.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from compressor.families import TowerSpec
from compressor.moments import Energy, Moments
from compressor.streams import Stream, look


@dataclass(frozen=True)
class LayerStatistics:
    """Second moments of one layer, float64."""

    heads: Tensor
    """(h d, h d): covariance of the input of the attention's output matrix."""
    ffn_input: Tensor
    """(width, width): covariance of the normed input of the FFN."""
    ffn_hidden: Tensor
    """(ffn_width, ffn_width): covariance of the input of the FFN's output matrix."""
    ffn_output_energy: float
    """`E|ffn(x) - mean|^2`."""
    residual_energy: float
    """`E|h - mean|^2` of the residual stream behind the layer."""


def calibrate_tower(
    model: nn.Module,
    spec: TowerSpec,
    stream: Stream,
    *,
    progress: Callable[[float], None] = lambda share: None,
) -> list[LayerStatistics]:
    """Statistics of every used layer of a tower; `stream` is moved behind the last."""
    layers = list(model.get_submodule(spec.layers).children())[: spec.used_layers]
    found = []
    for number, block in enumerate(layers, start=1):
        found.append(_calibrate_layer(block, spec, stream))
        progress(number / len(layers))
    return found


def _calibrate_layer(block: nn.Module, spec: TowerSpec, stream: Stream) -> LayerStatistics:
    heads, ffn_input, ffn_hidden = (Moments(constant=True) for _ in range(3))
    ffn_output, residual = Energy(), Energy()
    paths = (spec.o, spec.ffn_norm, spec.ffn_inputs[0], spec.ffn_output)
    for i, (hidden, arguments, weights) in enumerate(
        zip(stream.hidden, stream.arguments, stream.weights, strict=True)
    ):
        seen, output = look(block, hidden, arguments, *paths)
        heads.add(seen[spec.o], weights)
        ffn_input.add(seen[spec.ffn_inputs[0]], weights)
        ffn_hidden.add(seen[spec.ffn_output], weights)
        ffn_output.add(output - seen[spec.ffn_norm], weights)
        residual.add(output, weights)
        stream.hidden[i] = output
    return LayerStatistics(
        heads=second_moment(heads, block, spec.o),
        ffn_input=second_moment(ffn_input, block, spec.ffn_inputs[0]),
        ffn_hidden=second_moment(ffn_hidden, block, spec.ffn_output),
        ffn_output_energy=ffn_output.variance,
        residual_energy=residual.variance,
    )


def second_moment(moments: Moments, block: nn.Module, path: str) -> Tensor:
    """Covariance where the linear at `path` has a bias, which takes up the mean; else `E[x x^T]`."""
    mean, raw = moments.gram[:-1, -1], moments.gram[:-1, :-1]
    linear = block.get_submodule(path)
    if getattr(linear, "bias", None) is None:
        return raw
    return raw - torch.outer(mean, mean)
