"""Time one request to original and compressed in this process; kept by machine and plan.

A first look at whether the smaller model is the faster one, not what the serving engine will show:
that is what the target `latency` and the gateway's comparison measure. Times differ from run to run;
what was measured once for a plan on a machine is kept, so that the same compression gives the same
report.
"""

from __future__ import annotations

import hashlib
import json
import platform
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from importlib.metadata import version
from itertools import pairwise
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
_TURN_S = 20.0
"""A turn ends after this; a run that takes longer is the turn's only one."""
_ROUND_S = 60.0
"""A round that took longer is the only one."""
_QUIET = 0.2


class RequestTimes(BaseModel):
    """Seconds of the same request to both models."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    original_s: float = Field(gt=0)
    compressed_s: float = Field(gt=0)
    spread: float = Field(ge=0)
    """The middle half's range over the median, of the model that varied more; 0 of a single run."""
    runs: int = Field(ge=1)
    """Of the model that was asked less often."""
    measured_by: str
    """Software, number format, processor and request, in words."""

    @property
    def told(self) -> str:
        """How it was measured, and how far it can be trusted."""
        if self.runs == 1:
            return f"{self.measured_by}; a single run of each"
        doubt = "; the machine was not quiet" if self.spread > _QUIET else ""
        return (
            f"{self.measured_by}; medians of {self.runs} runs in turns, the middle half within "
            f"{self.spread:.0%}{doubt}"
        )


def times_of(
    cache: Path,
    config: dict[str, Any],
    plan_sha256: str,
    measured_by: str,
    measure: Callable[[], tuple[Sequence[float], Sequence[float]]],
) -> RequestTimes:
    """What is known of a plan on this machine, or what is measured now.

    Args:
        cache: where times are kept, in `latency/requests`; where nothing can be written they are not.
        config: the original's.
        plan_sha256: of the plan that made the compressed model of it.
        measured_by: in words, what the times depend on besides.
        measure: gives seconds of each run, of the original and of the compressed model.
    """
    known = {"version": _VERSION, "config": config, "plan": plan_sha256, "by": measured_by}
    key = hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()[:32]
    path = cache / "latency" / "requests" / f"{key}.json"
    with suppress(OSError, UnicodeDecodeError, ValidationError):  # not there, or another version's
        return RequestTimes.model_validate_json(path.read_text())
    original, compressed = measure()
    found = RequestTimes(
        original_s=median(original),
        compressed_s=median(compressed),
        spread=max(_spread(original), _spread(compressed)),
        runs=min(len(original), len(compressed)),
        measured_by=measured_by,
    )
    with suppress(OSError):  # hours of compressing are not lost for want of a cache
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, found.model_dump_json(indent=1) + "\n")
    return found


def told_by(device: torch.device, asked: dict[str, Tensor], image_token: int, answer: int) -> str:
    """Software, number format, processor and request, in words.

    Args:
        device: where both are asked.
        asked: the request's model inputs.
        image_token: id of the visual placeholder.
        answer: tokens of the answer.
    """
    ids = asked["input_ids"]
    visual = int((ids == image_token).sum())
    kind = "the model's own type" if asking_dtype(device) is None else "float32"
    if device.type == "cuda":
        where = torch.cuda.get_device_name(device)
    else:
        model = cpu_info("model name", "CPU part") or platform.processor() or "CPU"
        count = torch.get_num_threads()
        where = f"{model}, {count} {'thread' if count == 1 else 'threads'}"
    return (
        f"one request at a time of {visual} visual, {ids.numel() - visual} text and {answer} answer "
        f"tokens, in transformers {version('transformers')} in {kind} on {where}"
    )


def time_in_turns(
    directories: tuple[Path, Path],
    asked: dict[str, Tensor],
    new_tokens: int,
    device: torch.device,
    *,
    advance: Callable[[float], None],
) -> tuple[list[float], list[float]]:
    """Seconds of a request, up to `_ROUNDS` times `_RUNS` runs of each model, one in memory at a time.

    In turns, as a machine's speed drifts: each model has its share of the good and the bad minutes.
    Slow models are asked less often, see `_TURN_S` and `_ROUND_S`.

    Args:
        directories: of the original and the compressed model.
        asked: model inputs of one request, as a processor makes them.
        new_tokens: of the answer, whose end is not waited for.
        device: where to.
        advance: hears the share that is done, after every run; may raise to stop.
    """
    seconds: tuple[list[float], list[float]] = ([], [])
    for number in range(_ROUNDS):
        began = time.perf_counter()
        for side, directory in enumerate(directories):
            turn = number + side / 2

            def told(share: float, turn: float = turn) -> None:
                advance((turn + share / 2) / _ROUNDS)

            seconds[side].extend(_times(directory, asked, new_tokens, device, told))
        if time.perf_counter() - began > _ROUND_S:
            break
    return seconds


@torch.inference_mode()
def _times(
    directory: Path,
    asked: dict[str, Tensor],
    new_tokens: int,
    device: torch.device,
    advance: Callable[[float], None],
) -> list[float]:
    """Seconds of a turn's runs, after one that warms up; of that one alone where it takes long."""
    model: Any = assemble(directory, asking_dtype(device)).to(device)
    given = {name: values.to(device) for name, values in asked.items()}
    ends = [time.perf_counter()]
    while len(ends) < _RUNS + 2:
        model.generate(
            **given, do_sample=False, min_new_tokens=new_tokens, max_new_tokens=new_tokens
        )
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        ends.append(time.perf_counter())
        advance((len(ends) - 1) / (_RUNS + 1))
        if ends[-1] - ends[0] > _TURN_S:
            break
    found = [end - start for start, end in pairwise(ends)]
    return found[1:] or found


def _spread(seconds: Sequence[float]) -> float:
    """The middle half's range over the median."""
    if len(seconds) < 2:
        return 0.0
    low, middle, high = quantiles(seconds, n=4, method="inclusive")
    return (high - low) / middle
