"""A job gives way to serving: tried in a process of its own, for there is no way back."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

SHOW = """
import os
from pathlib import Path
from service.jobs.giving_way import give_way
give_way({niceness})
group = Path("/proc/self/autogroup")
print(os.getpriority(os.PRIO_PROCESS, 0), group.read_text().split()[-1] if group.exists() else "none")
"""


def shown(niceness: int) -> list[str]:
    """The niceness of a process without a terminal that gave way, and of its session."""
    code = SHOW.format(niceness=niceness)
    return subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True,
        start_new_session=True,
    ).stdout.split()  # fmt: skip


def test_a_process_and_its_session_give_way() -> None:
    here = os.getpriority(os.PRIO_PROCESS, 0)
    own, group = shown(7)
    assert int(own) == min(19, here + 7)
    if group == "none":
        pytest.skip("this kernel has no autogroups")
    assert int(group) == 7


def test_at_zero_nothing_changes() -> None:
    own, group = shown(0)
    assert int(own) == os.getpriority(os.PRIO_PROCESS, 0)
    assert group in {"none", "0"}
