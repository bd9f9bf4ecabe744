"""Real vLLM: a worker and its engine core are killed or stopped while clients ask.

Needs the bundled model, and minutes: an engine takes half a minute to start on an idle machine.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import suppress

import psutil
import pytest

from service.workers.manager import free_port
from service.workers.process import GuardedProcess
from tests.conftest import FACTOR
from tests.faults.figures import Figures, record
from tests.faults.load import trusted_workers
from tests.support.http import Reply, call, chat
from tests.support.servers import ROOT, wait_until

MODEL = "shapes-llava"
START_S = 600.0 * FACTOR
PROBE_S = 10.0
"""Two cores carry two engines and the clients: a busy engine is not a dead one."""


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A whole service with two engines."""
    port, home = free_port(), tmp_path_factory.mktemp("service")
    environment = os.environ | {
        "PORT": str(port), "INFOPRUNE_RUN_DIR": str(home / "run"), "INFOPRUNE_AUTH": "off",
        "INFOPRUNE_WORKERS_PER_MODEL": "2", "PYTHONPATH": str(ROOT),
        "INFOPRUNE_PROBE_TIMEOUT_S": str(PROBE_S), "INFOPRUNE_REQUEST_TIMEOUT_S": str(START_S),
        "INFOPRUNE_WORKER_START_TIMEOUT_S": str(START_S),
    }  # fmt: skip
    command = [sys.executable, "-m", "service.cli", "serve", str(ROOT / "models" / MODEL)]
    process = GuardedProcess(command, env=environment, log=home / "log", grace_s=60.0)
    found = f"http://127.0.0.1:{port}"
    try:
        wait_until(lambda: _trusted(found) == 2, timeout_s=2 * START_S)
        yield found
    finally:
        process.stop()


def _trusted(url: str) -> float:
    try:
        return trusted_workers(url)
    except OSError:
        return 0.0


def _below(text: str) -> list[psutil.Process]:
    """Processes below this one whose command line or name holds a text; guards do not count."""
    found = []
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):
            line = " ".join(process.cmdline())
            if "guard.py" not in line and (text in line or text in process.name()):
                found.append(process)
    return found


def ask(url: str, number: int) -> Reply:
    body = chat(f"Is there a circle? {number}", model=MODEL, max_tokens=4, temperature=0)
    return call("POST", f"{url}/v1/chat/completions", body, timeout_s=START_S)


def judge(name: str, replies: list[tuple[Reply, float]], seconds: float, remark: str = "") -> None:
    """Nothing may be lost."""
    good = [reply.status for reply, _ in replies].count(200)
    slowest = max(elapsed for _, elapsed in replies)
    lost = len(replies) - good
    record(Figures(name, seconds, good, lost, slowest, remark=remark))
    assert lost == 0, [reply.body[:200] for reply, _ in replies if reply.status != 200]


def timed(url: str, number: int) -> tuple[Reply, float]:
    started = time.monotonic()
    return ask(url, number), time.monotonic() - started


@pytest.mark.timeout(1800 * FACTOR)
@pytest.mark.parametrize(
    ("victim", "name"),
    [
        ("vllm.entrypoints.openai.api_server", "kill -9 of a real vLLM worker"),
        ("EngineCor", "kill -9 of a real vLLM engine core"),
    ],
)
def test_kill_9_within_a_real_engine_loses_nothing(url: str, victim: str, name: str) -> None:
    targets = _below(victim)
    assert targets
    replies = [timed(url, i) for i in range(5)]
    killed = time.monotonic()
    targets[0].kill()
    replies += [timed(url, i) for i in range(5, 30)]
    wait_until(lambda: len(_below(victim)) >= 2 and _trusted(url) == 2, timeout_s=2 * START_S)
    judge(name, replies, time.monotonic() - killed, "until two engines answer again")


@pytest.mark.timeout(1800 * FACTOR)
def test_a_real_engine_that_is_stopped_loses_nothing(url: str) -> None:
    target = _below("vllm.entrypoints.openai.api_server")[0]
    replies = [timed(url, i) for i in range(5)]
    target.send_signal(signal.SIGSTOP)
    try:
        started = time.monotonic()
        replies += [timed(url, i) for i in range(5, 20)]
        wait_until(lambda: _trusted(url) < 2, timeout_s=10 * PROBE_S)
        seen = time.monotonic() - started
    finally:
        target.send_signal(signal.SIGCONT)
    resumed = time.monotonic()
    wait_until(lambda: _trusted(url) == 2, timeout_s=START_S)
    seconds = time.monotonic() - resumed
    judge("SIGSTOP of a real vLLM worker", replies, seconds, f"out within {seen:.0f} s")
