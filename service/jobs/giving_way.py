"""A job gives way to whoever is being answered: the kernel runs it in the time that serving leaves."""

from __future__ import annotations

import os
from pathlib import Path

import structlog

log = structlog.get_logger()
_AUTOGROUP = Path("/proc/self/autogroup")


def give_way(niceness: int) -> None:
    """Lower this process's claim on processors that others want too; a GPU knows no such thing.

    Call it before there are threads: they inherit it. Linux weighs sessions against each other first
    (autogroups), and processes only within one, so the session's weight is lowered too where it has no
    terminal: then it is a runner's own. In a container, its own weight counts (`cpu_shares`).
    """
    if niceness == 0:
        return
    os.nice(niceness)
    if _has_terminal():
        return
    try:
        _AUTOGROUP.write_text(str(niceness))
    except OSError as error:  # another kernel, or one without autogroups
        log.debug("autogroup not lowered", error=str(error))


def _has_terminal() -> bool:
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY))
    except OSError:
        return False
    return True
