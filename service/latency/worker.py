"""Runs inside vLLM's worker process: times modules by hooks, and builds projectors to be timed.

vLLM mixes `TimingExtension` into its worker class (`worker_extension_cls`) and calls its methods by
name (`collective_rpc`). On a GPU the times are those between CUDA events, which are read at the end of
a run, so that timing does not wait for the device in between.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from compressor.checkpoint import LayerShape
from compressor.errors import UnsupportedArchitectureError


def timed_modules(model: Any) -> Iterator[tuple[str, nn.Module]]:
    """The modules of a LLaVA in vLLM that are timed, by the name that their times get.

    Raises:
        UnsupportedArchitectureError: it is another model.
    """
    tower = getattr(getattr(model, "vision_tower", None), "vision_model", None)
    if tower is None:
        raise UnsupportedArchitectureError(
            f"Modules of {type(model).__name__} cannot be timed; only those of LLaVA can."
        )
    yield "patches", tower.embeddings
    yield "projector/0/whole", model.multi_modal_projector
    yield "logits", model.language_model.logits_processor
    for name, layers in (
        ("vision", tower.encoder.layers),
        ("language", model.language_model.model.layers),
    ):
        for index, layer in enumerate(layers):
            yield f"{name}/{index}/attention", layer.self_attn
            yield f"{name}/{index}/ffn", layer.mlp
            yield f"{name}/{index}/whole", layer


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
    """Hooks on modules, and what they saw."""

    def __init__(self, model: nn.Module, device: torch.device) -> None:
        self._clock = _Clock(device)
        self._marks: list[tuple[str, int, Any, Any]] = []
        self._started: dict[str, Any] = {}
        self._step_tokens = 0
        self._handles: list[Any] = []
        for name, module in timed_modules(model):
            self._watch(name, module)

    def _watch(self, name: str, module: nn.Module) -> None:
        language = name.startswith("language/")

        def before(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            if language:
                self._step_tokens = _tokens(args, kwargs)
            self._started[name] = self._clock.mark()

        def after(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> None:
            tokens = self._step_tokens if language or name == "logits" else 0
            self._marks.append((name, tokens, self._started.pop(name), self._clock.mark()))

        self._handles += [
            module.register_forward_pre_hook(before, with_kwargs=True),
            module.register_forward_hook(after, with_kwargs=True),
        ]

    def collect(self) -> dict[str, list[tuple[int, float]]]:
        """What was seen since the last call: (tokens in the step, seconds) by module."""
        found: dict[str, list[tuple[int, float]]] = {}
        for name, tokens, start, end in self._marks:
            found.setdefault(name, []).append((tokens, self._clock.between(start, end)))
        self._marks.clear()
        return found

    def remove(self) -> None:
        """Take the hooks off."""
        for handle in self._handles:
            handle.remove()


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
        worker.infoprune_timer = ModuleTimer(worker.model_runner.model, worker.device)

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
        projector = model.multi_modal_projector
        kept = projector.linear_1, projector.linear_2
        found: list[float] = []
        for shape in shapes:
            with set_current_vllm_config(worker.vllm_config):
                model.compress_projector(
                    LayerShape.model_validate_json(shape), worker.vllm_config, "probe"
                )
            _fill(projector, worker)
            found.append(_median_time(projector, model.config, positions, repeats, worker))
        projector.linear_1, projector.linear_2 = kept
        return found


@torch.inference_mode()
def _fill(projector: nn.Module, worker: Any) -> None:
    """Random weights, packed as vLLM packs loaded ones."""
    dtype = worker.model_config.dtype
    for module in projector.modules():
        method = getattr(module, "quant_method", None)
        if method is None:
            continue
        for parameter in module.parameters(recurse=False):
            values = torch.randn(parameter.shape) * 0.02
            parameter.data = values.to(device=worker.device, dtype=dtype)
        method.process_weights_after_loading(module)


@torch.inference_mode()
def _median_time(
    projector: nn.Module, config: Any, positions: int, repeats: int, worker: Any
) -> float:
    clock = _Clock(worker.device)
    x = torch.randn(1, positions, config.vision_config.hidden_size)
    x = x.to(device=worker.device, dtype=worker.model_config.dtype)
    found = []
    for _ in range(repeats + 2):
        start = clock.mark()
        projector(x)
        found.append(clock.between(start, clock.mark()))
    return statistics.median(found[2:])
