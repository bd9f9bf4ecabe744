"""Runs a command so that nothing of it outlives whoever started the guard. Standard library only.

    python -S guard.py [--grace-s 10] -- COMMAND...

The guard's standard input is a pipe whose other end only its parent holds: end of file means that the
parent is gone, even by `kill -9`. On Linux it is also the subreaper of its descendants, so that what
the command leaves behind, in sessions of their own too, stays its child and is killed with the rest.
"""

from __future__ import annotations

import ctypes
import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_POLL_S = 0.1


def _prctl(option: int, value: int) -> None:
    """Linux's prctl; elsewhere the pipe alone has to do."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


def descendants(root: int) -> list[int]:
    """Process ids of all descendants of `root`, from /proc; empty where there is no /proc."""
    children: dict[int, list[int]] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            # "pid (name) state ppid ...": the name may hold spaces and brackets.
            parent = int(path.read_text().rpartition(")")[2].split()[1])
        except (OSError, ValueError, IndexError):
            continue
        children.setdefault(parent, []).append(int(path.parent.name))
    found: list[int] = []
    queue = [root]
    while queue:
        below = children.get(queue.pop(), [])
        found += below
        queue += below
    return found


def _send(pids: list[int], number: int) -> None:
    for pid in pids:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            continue


def _reap(child: int) -> int | None:
    """Collect ended children; the exit status of `child` if it was among them."""
    status = None
    while True:
        try:
            pid, raw = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return status
        if pid == 0:
            return status
        if pid == child:
            status = os.waitstatus_to_exitcode(raw)


def kill_tree(child: int, grace_s: float) -> int | None:
    """SIGTERM to all descendants, SIGKILL to those that are left after the grace period."""
    status = None
    deadline = time.monotonic() + grace_s
    number = signal.SIGTERM
    while True:
        # A process may start others while it dies: look again until there is none.
        pids = descendants(os.getpid()) or ([child] if status is None and _alive(child) else [])
        if not pids:
            return status
        _send(pids, number)
        if number == signal.SIGTERM and sys.platform != "linux":
            _kill_group(child, signal.SIGTERM)
        while time.monotonic() < deadline:
            found = _reap(child)
            status = found if found is not None else status
            if not descendants(os.getpid()) and not _alive(child):
                return status
            time.sleep(_POLL_S / 4)
        if number == signal.SIGKILL:
            _kill_group(child, signal.SIGKILL)
        number = signal.SIGKILL
        deadline = time.monotonic() + 1.0


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def _kill_group(child: int, number: int) -> None:
    try:
        os.killpg(child, number)
    except (ProcessLookupError, PermissionError):
        return


def _in_child() -> None:
    """Between fork and exec: if the guard itself is killed, so is the command."""
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def run(command: list[str], grace_s: float) -> int:
    """Run `command` until it ends, the parent ends, or the guard is told to stop."""
    stopping = False

    def stop(number: int, frame: object) -> None:
        nonlocal stopping
        stopping = True

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, stop)
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        start_new_session=True,
        preexec_fn=_in_child,  # noqa: PLW1509 - the guard has one thread
    )
    child, status = process.pid, None
    while status is None and not stopping:
        readable, _, _ = select.select([0], [], [], _POLL_S)
        if readable and not os.read(0, 1024):
            stopping = True
        status = _reap(child)
    last = kill_tree(child, grace_s)
    status = status if status is not None else last
    process.returncode = 0 if status is None else status  # reaped here, not by Popen
    return 128 - process.returncode if process.returncode < 0 else process.returncode


def main(arguments: list[str]) -> int:
    """Parse the command line; 2 if it is wrong."""
    grace_s = 10.0
    if arguments[:1] == ["--grace-s"]:
        grace_s, arguments = float(arguments[1]), arguments[2:]
    if arguments[:1] != ["--"] or len(arguments) < 2:
        sys.stderr.write("usage: guard.py [--grace-s SECONDS] -- COMMAND...\n")
        return 2
    return run(arguments[1:], grace_s)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
