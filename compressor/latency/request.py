"""Time one request to original and compressed in this process; kept by machine and plan.

A first look at whether the smaller model is the faster one, not what the serving engine will show: that
is what the target `latency` and the gateway's comparison measure. Times differ from run to run; what
was measured once for a plan on a machine is kept, so that the same compression gives the same report.
"""

from __future__ import annotations

import hashlib
import json
import platform
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from torch import Tensor

from compressor.loading import asking_dtype, assemble
from compressor.processor import cpu_info
from compressor.work import write_text

_VERSION = 1
_ROUNDS = 2
_RUNS = 5
_QUIET = 0.2


class RequestTimes(BaseModel):
    """Seconds of the same request to both models."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    original_s: float = Field(gt=0)
    compressed_s: float = Field(gt=0)
    spread: float = Field(ge=0)
    """The middle half's range over the median, of the model that varied more."""
    measured_by: str
    """Software, number format, processor and request, in words."""

    @property
    def told(self) -> str:
        """How it was measured, and how far it can be trusted."""
        doubt = "; the machine was not quiet" if self.spread > _QUIET else ""
        return f"{self.measured_by}; the middle half within {self.spread:.0%}{doubt}"


def times_of(
    cache: Path,
    config: dict[str, Any],
    plan_sha256: str,
    measured_by: str,
    measure: Callable[[], tuple[Sequence[float], Sequence[float]]],
) -> RequestTimes:
    """What is known of a plan on this machine, or what is measured now.

    Args:
        cache: where times are kept; `latency/requests` in it.
        config: the original's.
        plan_sha256: of the plan that made the compressed model of it.
        measured_by: in words, what the times depend on besides.
        measure: gives seconds of each run, of the original and of the compressed model.
    """
    known = {"version": _VERSION, "config": config, "plan": plan_sha256, "by": measured_by}
    key = hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()[:32]
    path = cache / "latency" / "requests" / f"{key}.json"
    try:
        return RequestTimes.model_validate_json(path.read_text())
    except (OSError, UnicodeDecodeError, ValidationError):
        pass  # not measured yet, or not by this version
    original, compressed = measure()
    found = RequestTimes(
        original_s=median(original),
        compressed_s=median(compressed),
        spread=max(_spread(original), _spread(compressed)),
        measured_by=measured_by,
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, found.model_dump_json(indent=1) + "\n")
    return found


def told_by(device: torch.device, request: str) -> str:
    """Software, number format, processor and request, in words."""
    kind = "the model's own type" if asking_dtype(device) is None else "float32"
    if device.type == "cuda":
        where = torch.cuda.get_device_name(device)
    else:
        model = cpu_info("model name", "CPU part") or platform.processor() or "CPU"
        count = torch.get_num_threads()
        where = f"{model}, {count} {'thread' if count == 1 else 'threads'}"
    return (
        f"{request}, alone, in transformers {version('transformers')} in {kind} on {where}; medians of "
        f"{_ROUNDS * _RUNS} runs in turns"
    )


def time_in_turns(
    directories: tuple[Path, Path],
    asked: dict[str, Tensor],
    new_tokens: int,
    device: torch.device,
    *,
    advance: Callable[[float], None],
) -> tuple[list[float], list[float]]:
    """Seconds of a request, `_ROUNDS` times `_RUNS` runs of each model, one model in memory at a time.

    In turns, as a machine's speed drifts: each model has its share of the good and the bad minutes.

    Args:
        directories: of the original and the compressed model.
        asked: model inputs of one request, as a processor makes them.
        new_tokens: of the answer, whose end is not waited for.
        device: where to.
        advance: hears the share that is done.
    """
    seconds: tuple[list[float], list[float]] = ([], [])
    turns = [
        (side, directory) for _ in range(_ROUNDS) for side, directory in enumerate(directories)
    ]
    for done, (side, directory) in enumerate(turns, start=1):
        seconds[side].extend(_times(directory, asked, new_tokens, device))
        advance(done / len(turns))
    return seconds


@torch.inference_mode()
def _times(
    directory: Path, asked: dict[str, Tensor], new_tokens: int, device: torch.device
) -> list[float]:
    """Seconds of `_RUNS` runs after one that warms up."""
    model: Any = assemble(directory, asking_dtype(device)).to(device)
    given = {name: values.to(device) for name, values in asked.items()}
    found = []
    for _ in range(_RUNS + 1):
        started = time.perf_counter()
        model.generate(
            **given, do_sample=False, min_new_tokens=new_tokens, max_new_tokens=new_tokens
        )
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        found.append(time.perf_counter() - started)
    return found[1:]


def _spread(seconds: Sequence[float]) -> float:
    """The middle half's range over the median."""
    low, middle, high = quantiles(seconds, n=4, method="inclusive")
    return (high - low) / middle
