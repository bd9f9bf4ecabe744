"""Runs inside vLLM's worker process: times modules, and builds projectors to be timed.

vLLM mixes `TimingExtension` into its worker class (`worker_extension_cls`) and calls its methods by
name (`collective_rpc`). On a GPU the times are those between CUDA events, which are read at the end of
a run, so that timing does not wait for the device in between.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from compressor.checkpoint import LayerShape
from service.latency.modules import Parts, parts_of


class _Clock:
    """Marks in time, on the CPU or in a CUDA stream."""

    def __init__(self, device: torch.device) -> None:
        self._cuda = device.type == "cuda"

    def mark(self) -> Any:
        if not self._cuda:
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def between(self, start: Any, end: Any) -> float:
        """Seconds between two marks; waits for the device."""
        if not self._cuda:
            return float(end - start)
        end.synchronize()
        return float(start.elapsed_time(end)) / 1e3


class ModuleTimer:
    """Wraps the forward of modules, and keeps what it saw.

    Not PyTorch's hooks: vLLM's compilable modules go round them.
    """

    def __init__(self, parts: Parts, device: torch.device) -> None:
        self._clock = _Clock(device)
        self._marks: list[tuple[str, int, Any, Any]] = []
        self._step_tokens = 0
        self._modules = [module for _, module in parts.named()]
        for name, module in parts.named():
            module.forward = self._timed(name, module.forward)

    def _timed(self, name: str, forward: Callable[..., Any]) -> Callable[..., Any]:
        language = name.startswith("language/")
        in_steps = language or name == "logits"

        def timed(*args: Any, **kwargs: Any) -> Any:
            if language:
                self._step_tokens = _tokens(args, kwargs)
            start = self._clock.mark()
            output = forward(*args, **kwargs)
            tokens = self._step_tokens if in_steps else 0
            self._marks.append((name, tokens, start, self._clock.mark()))
            return output

        return timed

    def collect(self) -> dict[str, list[tuple[int, float]]]:
        """What was seen since the last call: (tokens in the step, seconds) by module."""
        found: dict[str, list[tuple[int, float]]] = {}
        for name, tokens, start, end in self._marks:
            found.setdefault(name, []).append((tokens, self._clock.between(start, end)))
        self._marks.clear()
        return found

    def remove(self) -> None:
        """Give the modules their own forward back."""
        for module in self._modules:
            del module.forward


def _tokens(args: tuple[Any, ...], kwargs: dict[str, Any]) -> int:
    """Positions in the activations that a module is called with."""
    for value in (*args, *kwargs.values()):
        if isinstance(value, Tensor) and value.is_floating_point():
            return value.shape[:-1].numel()
    return 0


class TimingExtension:
    """Methods that vLLM's worker gets."""

    def infoprune_start(self) -> None:
        """Begin to time modules."""
        worker: Any = self
        worker.infoprune_timer = ModuleTimer(parts_of(worker.model_runner.model), worker.device)

    def infoprune_collect(self) -> dict[str, list[tuple[int, float]]]:
        """The times since the last call."""
        worker: Any = self
        timer: ModuleTimer = worker.infoprune_timer
        return timer.collect()

    def infoprune_stop(self) -> None:
        """Stop timing."""
        worker: Any = self
        worker.infoprune_timer.remove()

    def infoprune_projectors(self, shapes: list[str], positions: int, repeats: int) -> list[float]:
        """Median seconds of projectors of other shapes, whose weights are random."""
        from vllm.config import set_current_vllm_config

        worker: Any = self
        model = worker.model_runner.model
        parts = parts_of(model)
        kept = {name: getattr(parts.linears, name) for name in parts.linear_names}
        found: list[float] = []
        for shape in shapes:
            with set_current_vllm_config(worker.vllm_config):
                model.compress_projector(
                    LayerShape.model_validate_json(shape), worker.vllm_config, "probe"
                )
            for name, own in kept.items():
                made = getattr(parts.linears, name)
                if made is not own:
                    _fill(made, worker)
            found.append(_median_time(parts, positions, repeats, worker))
            for name, own in kept.items():
                setattr(parts.linears, name, own)
        return found


@torch.inference_mode()
def _fill(linear: nn.Module, worker: Any) -> None:
    """Random weights, packed as vLLM packs loaded ones."""
    dtype = worker.model_config.dtype
    for module in _with_weights(linear):
        for parameter in module.parameters(recurse=False):
            values = torch.randn(parameter.shape) * 0.02
            parameter.data = values.to(device=worker.device, dtype=dtype)
        method: Any = module.quant_method
        method.process_weights_after_loading(module)


def _with_weights(linear: nn.Module) -> Iterator[nn.Module]:
    return (module for module in linear.modules() if getattr(module, "quant_method", None))


@torch.inference_mode()
def _median_time(parts: Parts, positions: int, repeats: int, worker: Any) -> float:
    clock = _Clock(worker.device)
    x = torch.randn(positions * parts.rows_a_token, parts.projector_reads)
    x = x.to(device=worker.device, dtype=worker.model_config.dtype)
    found = []
    for _ in range(repeats + 2):
        start = clock.mark()
        parts.projector(x)
        found.append(clock.between(start, clock.mark()))
    return statistics.median(found[2:])
