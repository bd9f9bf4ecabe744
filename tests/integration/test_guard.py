"""Nothing outlives its parent, however that ends. Real processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import psutil
import pytest

from service.workers.process import GuardedProcess
from tests.support.servers import ROOT, wait_until

# Starts a grandchild in a session of its own, both deaf to SIGTERM, and writes both ids.
STUBBORN = textwrap.dedent(
    """
    import os, signal, subprocess, sys, time
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    code = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(60)"
    child = subprocess.Popen([sys.executable, "-c", code], start_new_session=True)
    time.sleep(0.3)
    with open(sys.argv[1] + ".tmp", "w") as file:
        file.write(f"{os.getpid()} {child.pid}")
    os.rename(sys.argv[1] + ".tmp", sys.argv[1])
    time.sleep(60)
    """
)
PARENT = textwrap.dedent(
    """
    import os, sys, time
    from pathlib import Path
    from service.workers.process import GuardedProcess
    log = Path(sys.argv[1] + ".log")
    command = [sys.executable, "-c", sys.argv[2], sys.argv[1]]
    kept = GuardedProcess(command, env=os.environ, log=log, grace_s=0.5)
    time.sleep(60)
    """
)


def pids_in(path: Path) -> list[int]:
    wait_until(path.exists)
    return [int(pid) for pid in path.read_text().split()]


def gone(pids: list[int]) -> bool:
    return not any(psutil.pid_exists(pid) for pid in pids)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_nothing_outlives_a_parent_that_is_killed(number: signal.Signals, tmp_path: Path) -> None:
    note = tmp_path / "pids"
    command = [sys.executable, "-c", PARENT, str(note), STUBBORN]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL) as parent:
        pids = pids_in(note)
        assert not gone(pids)
        parent.send_signal(number)
        parent.wait()
        wait_until(lambda: gone(pids))


def test_stop_ends_a_stubborn_tree_after_the_grace(tmp_path: Path) -> None:
    note = tmp_path / "pids"
    process = GuardedProcess(
        [sys.executable, "-c", STUBBORN, str(note)], env=os.environ, log=tmp_path / "log",
        grace_s=0.5,
    )  # fmt: skip
    pids = pids_in(note)
    process.stop()
    assert gone(pids)


def test_the_command_ends_if_its_guard_is_killed(tmp_path: Path) -> None:
    code = "import os, time; print(os.getpid(), flush=True); time.sleep(60)"
    log = tmp_path / "log"
    process = GuardedProcess([sys.executable, "-c", code], env=os.environ, log=log)
    wait_until(lambda: log.read_text().endswith("\n"))
    os.kill(process.pid, signal.SIGKILL)
    wait_until(lambda: gone([int(log.read_text())]))
    assert process.stop() == -signal.SIGKILL


def test_the_status_and_the_last_error_are_known(tmp_path: Path) -> None:
    code = "import sys; print('ValueError: no room'); sys.exit(3)"
    log = tmp_path / "log"
    process = GuardedProcess([sys.executable, "-c", code], env=os.environ, log=log)
    wait_until(lambda: process.poll() is not None)
    assert process.poll() == 3
    assert process.last_error() == "ValueError: no room"
    assert process.stop() == 3
