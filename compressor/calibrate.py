"""Calibrate: what flows through each layer of the original, as second moments.

One layer runs at a time over all calibration data; of each layer remain the covariance of its
attention's inputs and heads' outputs, of its FFN's inputs and hidden units, the energy of the residual
stream, and how errors inside reach it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from compressor.errors import CalibrationError
from compressor.families import TowerSpec
from compressor.loading import linear_at
from compressor.massive import MassiveLimit
from compressor.moments import Energy, Moments
from compressor.streams import Stream, look

_PROBE = 0.02
_PROBED = 16  # examples
_ROWS = 1024  # of a matrix in float64 at a time
_CONSTANT = 1e-10
"""Share of the second moment under which a variance is rounding: float32 has 1e-14."""


@dataclass(frozen=True)
class LayerStatistics:
    """Second moments of one layer, float64."""

    heads: Tensor
    """(h d, h d): covariance of the input of the attention's output matrix; empty without attention."""
    attention_input: Tensor
    """(D, D): covariance of the normed input of q, k and v; empty without attention."""
    ffn_input: Tensor
    """(reads, reads): covariance of the normed input of the FFN."""
    ffn_hidden: Tensor
    """(ffn_width, ffn_width): covariance of the input of the FFN's output matrix."""
    transfer: Tensor
    """(len(spec.reading),): for each matrix that reads the stream, the energy that reaches the block's
    output for noise at the matrix's output of the matrix's own energy; see `measure_transfer`."""
    residual_energy: float
    """`E|h - mean|^2` of the stream behind the layer."""

    def tensors(self) -> dict[str, Tensor]:
        """For a safetensors file."""
        return {
            "heads": self.heads,
            "attention_input": self.attention_input,
            "ffn_input": self.ffn_input,
            "ffn_hidden": self.ffn_hidden,
            "transfer": self.transfer,
            "residual": torch.tensor(self.residual_energy, dtype=torch.float64),
        }

    @classmethod
    def of_tensors(cls, tensors: Mapping[str, Tensor]) -> LayerStatistics:
        """What `tensors` made."""
        rest = {name: tensor for name, tensor in tensors.items() if name != "residual"}
        return cls(**rest, residual_energy=float(tensors["residual"]))


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
    heads, attention_input, ffn_input, ffn_hidden = (Moments(constant=True) for _ in range(4))
    residual, limit = Energy(), MassiveLimit()
    attention = spec.attention
    reads_attention = (attention.fused or attention.q) if attention else ""
    paths = [spec.ffn_inputs[0], spec.ffn_output]
    if attention is not None:
        paths = [attention.o, reads_attention, *paths]
    for i in range(len(stream)):
        hidden, weights = stream.read(i), stream.weights[i].to(stream.device)
        seen, output = look(block, hidden, stream.other(i), *(paths if measure else []))
        stream.write(i, output)
        if not measure:
            continue
        weights = limit(output, weights)
        ffn_input.add(seen[spec.ffn_inputs[0]], weights)
        ffn_hidden.add(seen[spec.ffn_output], weights)
        if attention is not None:
            heads.add(seen[attention.o], weights)
            attention_input.add(seen[reads_attention], weights)
        residual.add(output, weights)
    if not measure:
        return None
    nothing = torch.zeros(0, 0)
    # Each moment's own matrix is freed once its covariance is made of it.
    found = LayerStatistics(
        heads=second_moment(heads, block, attention.o) if attention else nothing,
        attention_input=second_moment(attention_input, block, reads_attention)
        if attention
        else nothing,
        ffn_input=second_moment(ffn_input, block, spec.ffn_inputs[0]),
        ffn_hidden=second_moment(ffn_hidden, block, spec.ffn_output),
        transfer=torch.zeros(len(spec.reading), dtype=torch.float64),
        residual_energy=residual.variance,
    )
    _check(found, spec, stream, constant=residual.variance <= _CONSTANT * residual.second_moment)
    return replace(found, transfer=measure_transfer(block, spec, stream, found))


def measure_transfer(
    block: nn.Module, spec: TowerSpec, stream: Stream, statistics: LayerStatistics
) -> Tensor:
    """(len(spec.reading),) how much of an error at a matrix's output reaches the block's output.

    Noise of `_PROBE` times the energy of the matrix's output is added to it, and the change of the
    block's output is measured on the first batches, of `_PROBED` examples at least: a large model's
    batch is one example, whose few answer positions count a third. Softmax and activation decide how
    much an error in q, k, v or a gate matters; no formula of the weights alone tells.
    """
    variances = [_PROBE * _mean_energy(block, spec, path, statistics) for path in spec.reading]
    found = torch.zeros(len(spec.reading), dtype=torch.float64)
    total, examples, limit = 0.0, 0, MassiveLimit()
    for i in range(len(stream)):
        hidden, weights = stream.read(i), stream.weights[i].to(stream.device)
        _, output = look(block, hidden, stream.other(i))
        weights = limit(output, weights)
        total += float(weights.double().sum())
        for number, path in enumerate(spec.reading):
            seed = number + i * len(spec.reading)
            with _noise(block, path, variances[number], seed=seed):
                _, disturbed = look(block, hidden, stream.other(i))
            change = (disturbed - output).reshape(-1, output.shape[-1]).double().square().sum(1)
            found[number] += float(change @ weights.double())
        examples += stream.examples[i]
        if examples >= _PROBED:
            break
    return found / (_PROBE * total)


def _mean_energy(
    block: nn.Module, spec: TowerSpec, path: str, statistics: LayerStatistics
) -> float:
    """Of one output of a matrix that reads the stream, `E|W x|^2 / rows`."""
    reads_attention = path in spec.projections
    covariance = statistics.attention_input if reads_attention else statistics.ffn_input
    weight = linear_at(block, path).weight.data.cpu()
    parts = (rows.double() for rows in weight.split(_ROWS))
    return sum(float(((rows @ covariance) * rows).sum()) for rows in parts) / len(weight)


@contextmanager
def _noise(block: nn.Module, path: str, variance: float, *, seed: int) -> Iterator[None]:
    """White noise of that variance in each output of the module at `path`."""
    generator = torch.Generator().manual_seed(seed)

    def disturb(_: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> Tensor:
        noise = torch.randn(output.shape, generator=generator) * variance**0.5
        return output + noise.to(output.device)

    handle = block.get_submodule(path).register_forward_hook(disturb)
    try:
        yield
    finally:
        handle.remove()


def second_moment(moments: Moments, block: nn.Module, path: str) -> Tensor:
    """Covariance where the linear at `path` has a bias, which takes up the mean; else `E[x x^T]`."""
    gram = moments.take_gram().cpu()
    total = float(gram[-1, -1])  # the weights' sum: massive positions count less than their own
    mean, raw = gram[:-1, -1] / total, gram[:-1, :-1].contiguous()
    del gram
    raw.div_(total)
    linear = block.get_submodule(path)
    if getattr(linear, "bias", None) is None:
        return raw
    return raw.addr_(mean, mean, alpha=-1)


def _check(found: LayerStatistics, spec: TowerSpec, stream: Stream, *, constant: bool) -> None:
    """Refuse statistics that say nothing, or too little."""
    where = f"layer {stream.depth} of the {spec.name} tower"
    covariances = (found.heads, found.attention_input, found.ffn_input, found.ffn_hidden)
    for tensor in covariances:
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
    widest = max(map(len, covariances))  # of the FFN's neurons, as a rule
    if positions < widest:
        raise CalibrationError(
            f"The calibration data have {positions} positions, too few for a covariance of "
            f"{widest} activations in {where}; set calibration.samples to "
            f"{math.ceil(widest / max(1, positions))} times as many."
        )
