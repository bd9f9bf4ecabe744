"""Real vLLM: a worker and its engine core are killed while clients ask. Needs the bundled model."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from service.workers.manager import free_port
from service.workers.process import GuardedProcess
from tests.faults.conftest import note
from tests.faults.load import trusted_workers
from tests.support.http import Reply, call, chat
from tests.support.servers import ROOT, wait_until

MODEL = "shapes-llava"
START_S = 600.0


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A whole service with two engines."""
    port, home = free_port(), tmp_path_factory.mktemp("service")
    environment = os.environ | {
        "PORT": str(port), "INFOPRUNE_RUN_DIR": str(home / "run"), "INFOPRUNE_AUTH": "off",
        "INFOPRUNE_WORKERS_PER_MODEL": "2", "PYTHONPATH": str(ROOT),
        # Two cores carry two engines and the clients: a busy engine is not a dead one.
        "INFOPRUNE_PROBE_TIMEOUT_S": "10",
    }  # fmt: skip
    command = [sys.executable, "-m", "service.cli", "serve", str(ROOT / "models" / MODEL)]
    process = GuardedProcess(command, env=environment, log=home / "log", grace_s=60.0)
    try:
        wait_until(lambda: _trusted(f"http://127.0.0.1:{port}") == 2, timeout_s=START_S)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.stop()


def _trusted(url: str) -> float:
    try:
        return trusted_workers(url)
    except OSError:
        return 0.0


def _below(text: str) -> list[psutil.Process]:
    """Processes below this one whose command line or name holds a text."""
    found = psutil.Process().children(recursive=True)
    return [p for p in found if text in " ".join(p.cmdline()) or text in p.name()]


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("victim", ["vllm.entrypoints.openai.api_server", "EngineCor"])
def test_kill_9_within_a_real_engine_loses_nothing(url: str, victim: str, tmp_path: Path) -> None:
    del tmp_path
    targets = [p for p in _below(victim) if "guard.py" not in " ".join(p.cmdline())]
    assert targets
    replies: list[Reply] = []
    killed = 0.0
    for i in range(30):
        if i == 5:
            killed = time.monotonic()
            targets[0].kill()
        body = chat(f"Is there a circle? {i}", model=MODEL, max_tokens=4, temperature=0)
        replies.append(call("POST", f"{url}/v1/chat/completions", body, timeout_s=300.0))
    assert [r.status for r in replies] == [200] * 30
    wait_until(lambda: _trusted(url) < 2, timeout_s=60)
    wait_until(lambda: _trusted(url) == 2, timeout_s=START_S)
    note(
        f"{'kill -9: ' + victim[:18]:<28} two engines again after {time.monotonic() - killed:.0f} s"
    )
