"""The supervisor's checks, and a whole service that is killed."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from service.operator_errors import PortInUseError, RunDirectoryInUseError
from service.settings import Settings
from service.supervisor import allowed_roots, check_port, lock_directory
from service.workers.manager import free_port
from tests.support.random_vlm import write_random_llava
from tests.support.registry import model
from tests.support.servers import ROOT, answers, wait_until


def test_who_has_the_port_is_named() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        with pytest.raises(PortInUseError, match=rf"Port {port} is in use by .*pid {os.getpid()}"):
            check_port("127.0.0.1", port)
    check_port("127.0.0.1", port)


def test_one_supervisor_a_run_directory(tmp_path: Path) -> None:
    with lock_directory(tmp_path), pytest.raises(RunDirectoryInUseError, match="INFOPRUNE_RUN_DIR"):
        lock_directory(tmp_path)
    lock_directory(tmp_path).close()


def test_models_of_an_own_store_may_lie_anywhere_and_those_of_a_shared_one_may_not() -> None:
    named = [model("tiny", path="/models/tiny")]
    settings = Settings(redis_url=None)
    assert allowed_roots(settings, named) == [Path("/")]
    for changed in ({"redis_url": "redis://elsewhere:6379/0"}, {"model_roots": ()}):
        found = allowed_roots(settings.model_copy(update=changed), named)
        assert found == [Path("/models/tiny")]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_no_process_of_a_service_survives_it(number: signal.Signals, tmp_path: Path) -> None:
    write_random_llava(tmp_path / "tiny")
    port, run_dir = free_port(), tmp_path / "run"
    environment = os.environ | {"PORT": str(port), "INFOPRUNE_RUN_DIR": str(run_dir)}
    command = [sys.executable, "-m", "service.cli", "serve", str(tmp_path / "tiny")]
    with subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT
    ) as process:
        wait_until(lambda: answers(port, "/health"), timeout_s=60)
        family = psutil.Process(process.pid).children(recursive=True)
        names = " ".join(" ".join(child.cmdline()) for child in family)
        for part in ("valkey", "service.gateway", "service.jobs", "vllm"):
            assert part in names

        process.send_signal(number)
        process.wait(30)
        wait_until(lambda: not any(child.is_running() for child in family))


def test_a_command_starts_without_the_seconds_that_torch_takes() -> None:
    code = "import sys, service.cli; print('torch' in sys.modules, 'transformers' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["False", "False"]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["serve", "nowhere"], "There is no model directory 'nowhere'"),
        (["compress", "nowhere", "-r", "flops: 0.5", "-o", "x"], "There is no model directory"),
        (["compress", "nowhere", "-r", "flop: 0.5", "-o", "x"], "did you mean 'flops'?"),
    ],
)
def test_the_command_line_fails_with_one_sentence(
    arguments: list[str], sentence: str, tmp_path: Path
) -> None:
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-m", "service.cli", *arguments],
        cwd=tmp_path, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert sentence in done.stderr
    assert done.stderr.startswith("infoprune: ")
    assert len(done.stderr.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []
