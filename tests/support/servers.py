"""Child processes for tests, under the guard: they end with the test, however it ends."""

from __future__ import annotations

import http.client
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from service.workers.process import GuardedProcess

ROOT = Path(__file__).resolve().parents[2]


def wait_until(holds: Callable[[], bool], *, timeout_s: float = 60.0) -> None:
    """Poll until a condition holds; an assertion error where it never does."""
    deadline = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)


def answers(port: int, path: str) -> bool:
    """Whether an HTTP server answers at all."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
    try:
        connection.request("GET", path)
        connection.getresponse().read()
    except OSError:
        return False
    finally:
        connection.close()
    return True


@contextmanager
def running(
    module: str, *arguments: str, log: Path, env: Mapping[str, str] | None = None
) -> Iterator[GuardedProcess]:
    """`python -m module` until the block ends."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **(env or {})}
    process = GuardedProcess([sys.executable, "-m", module, *arguments], env=environment, log=log)
    try:
        yield process
    finally:
        process.stop()
