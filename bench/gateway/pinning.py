"""Keep a process on one core."""

from __future__ import annotations

import os


def pin(core: int | None) -> None:
    """Pin this process and what it will start; nothing where there is no such core."""
    if core is not None and core in os.sched_getaffinity(0):
        os.sched_setaffinity(0, {core})
