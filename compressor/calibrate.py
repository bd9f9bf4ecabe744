"""Calibrate: what flows through each layer of the original, as second moments.

One layer runs at a time over all calibration data; of each layer remain the covariance of its
attention heads' outputs, of its FFN's inputs and hidden units, and the energies of what attention,
FFN and residual stream carry.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from compressor.errors import CalibrationError
from compressor.families import TowerSpec
from compressor.moments import Energy, Moments
from compressor.streams import Stream, look

_CONSTANT = 1e-10
"""Share of the second moment under which a variance is rounding: float32 has 1e-14."""


@dataclass(frozen=True)
class LayerStatistics:
    """Second moments of one layer, float64."""

    heads: Tensor
    """(h d, h d): covariance of the input of the attention's output matrix; empty without attention."""
    ffn_input: Tensor
    """(reads, reads): covariance of the normed input of the FFN."""
    ffn_hidden: Tensor
    """(ffn_width, ffn_width): covariance of the input of the FFN's output matrix."""
    ffn_output_energy: float
    """`E|ffn(x) - mean|^2`."""
    residual_energy: float
    """`E|h - mean|^2` of the stream behind the layer."""

    def tensors(self) -> dict[str, Tensor]:
        """For a safetensors file."""
        energies = torch.tensor([self.ffn_output_energy, self.residual_energy], dtype=torch.float64)
        return {
            "heads": self.heads,
            "ffn_input": self.ffn_input,
            "ffn_hidden": self.ffn_hidden,
            "energies": energies,
        }

    @classmethod
    def of_tensors(cls, tensors: Mapping[str, Tensor]) -> LayerStatistics:
        """What `tensors` made."""
        output, residual = tensors["energies"].tolist()
        return cls(tensors["heads"], tensors["ffn_input"], tensors["ffn_hidden"], output, residual)


def calibrate_layer(
    block: nn.Module, spec: TowerSpec, stream: Stream, *, measure: bool = True
) -> LayerStatistics | None:
    """Run a block over all data and move the stream behind it.

    Args:
        block: the layer, float32, on the stream's device.
        spec: its tower.
        stream: at the layer; afterwards the next depth is written, but not yet advanced to.
        measure: False only moves the stream.

    Raises:
        CalibrationError: the activations are not finite, or do not vary.
    """
    heads, ffn_input, ffn_hidden = (Moments(constant=True) for _ in range(3))
    ffn_output, residual = Energy(), Energy()
    attention = spec.attention
    paths = [spec.ffn_inputs[0], spec.ffn_output]
    if attention is not None:
        paths = [attention.o, spec.ffn_norm, *paths]
    for i in range(len(stream)):
        hidden, weights = stream.read(i), stream.weights[i].to(stream.device)
        seen, output = look(block, hidden, stream.other(i), *(paths if measure else []))
        stream.write(i, output)
        if not measure:
            continue
        ffn_input.add(seen[spec.ffn_inputs[0]], weights)
        ffn_hidden.add(seen[spec.ffn_output], weights)
        if attention is not None:
            heads.add(seen[attention.o], weights)
            ffn_output.add(output - seen[spec.ffn_norm], weights)
        else:
            ffn_output.add(output, weights)
        residual.add(output, weights)
    if not measure:
        return None
    found = LayerStatistics(
        heads=second_moment(heads, block, attention.o) if attention else torch.zeros(0, 0),
        ffn_input=second_moment(ffn_input, block, spec.ffn_inputs[0]),
        ffn_hidden=second_moment(ffn_hidden, block, spec.ffn_output),
        ffn_output_energy=ffn_output.variance,
        residual_energy=residual.variance,
    )
    _check(found, spec, stream, constant=residual.variance <= _CONSTANT * residual.second_moment)
    return found


def second_moment(moments: Moments, block: nn.Module, path: str) -> Tensor:
    """Covariance where the linear at `path` has a bias, which takes up the mean; else `E[x x^T]`."""
    gram = moments.gram.cpu()
    mean, raw = gram[:-1, -1], gram[:-1, :-1].contiguous()
    linear = block.get_submodule(path)
    if getattr(linear, "bias", None) is None:
        return raw
    return raw.addr_(mean, mean, alpha=-1)


def _check(found: LayerStatistics, spec: TowerSpec, stream: Stream, *, constant: bool) -> None:
    """Refuse statistics that say nothing, or too little."""
    where = f"layer {stream.depth} of the {spec.name} tower"
    for tensor in (found.heads, found.ffn_input, found.ffn_hidden):
        # The sum is finite only if all are, and needs no second matrix.
        if not math.isfinite(float(tensor.sum())):
            raise CalibrationError(
                f"Activations at {where} are not finite; check the model's weights (NaN or infinity) "
                "and the calibration images."
            )
    if constant:
        raise CalibrationError(
            f"Activations at {where} are the same at every position, so they carry no information; "
            "check the calibration data and the model's weights."
        )
    positions = sum(int((weights > 0).sum()) for weights in stream.weights)
    if positions < len(found.ffn_hidden):
        raise CalibrationError(
            f"The calibration data have {positions} positions, too few for a covariance of "
            f"{len(found.ffn_hidden)} neurons in {where}; ask for "
            f"{math.ceil(len(found.ffn_hidden) / max(1, positions))} times as many samples."
        )
