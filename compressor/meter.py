"""What a compression costs: seconds by stage, and peak memory of the process."""

from __future__ import annotations

import re
import resource
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

_STATUS = Path("/proc/self/status")


@dataclass(frozen=True)
class Spent:
    """What one run cost; a run that went on with an earlier one's pieces counts itself alone."""

    seconds: dict[str, float]
    """By stage."""
    peak_memory_bytes: int
    """The most that was resident, files that are mapped into memory included."""
    peak_device_bytes: int
    """The most that was allocated on the accelerator; 0 without one."""

    @property
    def total_s(self) -> float:
        """All stages."""
        return sum(self.seconds.values())

    def to_json(self) -> dict[str, Any]:
        """Plain JSON, seconds to the millisecond."""
        return asdict(self) | {"seconds": {k: round(v, 3) for k, v in self.seconds.items()}}


class Meter:
    """Hears a pipeline's progress and adds up the time by stage.

    Time before the first word of a stage, or before its `0.0`, is the stage's before it.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._last = clock()
        self._stage: str | None = None
        self._seconds: dict[str, float] = {}

    def __call__(self, stage: str, share: float) -> None:
        """A stage has come to a share of itself."""
        now = self._clock()
        spent_on = self._stage if self._stage and share == 0 else stage
        self._seconds[spent_on] = self._seconds.get(spent_on, 0.0) + now - self._last
        self._last, self._stage = now, stage

    def spent(self) -> Spent:
        """Up to now."""
        return Spent(dict(self._seconds), peak_memory_bytes(), peak_device_bytes())


def both(*hear: Callable[[Any, float], None]) -> Callable[[Any, float], None]:
    """Progress that several hear."""

    def tell(stage: Any, share: float) -> None:
        for each in hear:
            each(stage, share)

    return tell


def peak_memory_bytes() -> int:
    """The process's high-water mark of resident memory.

    Linux's own figure for this program where there is one: `getrusage` reports what the process had
    before it became this program, which is its parent's size after a fork.
    """
    if _STATUS.is_file() and (found := re.search(r"VmHWM:\s+(\d+) kB", _STATUS.read_text())):
        return int(found[1]) * 1024
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def peak_device_bytes() -> int:
    """The most that torch had allocated on the accelerator."""
    import torch

    return int(torch.cuda.max_memory_allocated()) if torch.cuda.is_available() else 0
