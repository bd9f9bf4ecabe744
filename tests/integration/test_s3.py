"""Checkpoints over S3: made on one machine, served on another, never half."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest
from redis import Redis

from compressor.checkpoint import MANIFEST, verify, writing
from compressor.errors import CheckpointError
from service.jobs.queue import JobQueue
from service.jobs.records import FINAL
from service.jobs.transfer import get_directory, put_directory
from service.registry import ModelEntry, Registry
from service.settings import Settings
from service.workers.machine import this_machine
from service.workers.manager import WorkerManager
from service.workers.vllm_command import Machine
from tests.conftest import FACTOR
from tests.support.http import call, chat
from tests.support.s3 import s3_server
from tests.support.servers import ROOT, gateway_within, running, wait_until

RECIPE = {
    "flops": 0.5,
    "calibration": {"samples": 16},
    "evaluation": {"samples": 8},
    "round_to": 4,
}
# A transfer in a process of its own that dies as the second file goes over.
DYING = """
import os, signal, sys
from pathlib import Path
import s3fs
from service.jobs import transfer
name = sys.argv[1]
whole, calls = getattr(s3fs.S3FileSystem, name), []
def dying(self, *args, **more):
    calls.append(1)
    if len(calls) == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return whole(self, *args, **more)
setattr(s3fs.S3FileSystem, name, dying)
if name == "put_file":
    transfer.put_directory(Path(sys.argv[2]), sys.argv[3])
else:
    transfer.get_directory(sys.argv[3], Path(sys.argv[2]))
"""


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    with s3_server(tmp_path / "s3.log", monkeypatch) as url:
        yield url


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    target = tmp_path / "made" / "small"
    with writing(target) as directory:
        (directory / "config.json").write_text("{}")
        # A safetensors file without tensors.
        (directory / "model.safetensors").write_bytes((2).to_bytes(8, "little") + b"{}")
        (directory / "report").mkdir()
        (directory / "report" / "picture.svg").write_text("<svg/>")
    return target


def die_while(what: str, directory: Path, url: str) -> None:
    command = [sys.executable, "-c", DYING, what, str(directory), url]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr[-2000:]


def test_a_transfer_that_dies_leaves_nothing_that_is_served_and_the_next_one_is_whole(
    store: str, checkpoint: Path, tmp_path: Path
) -> None:
    url, back = f"{store}/small", tmp_path / "back"
    die_while("put_file", checkpoint, url)
    with pytest.raises(CheckpointError, match="no whole checkpoint"):
        get_directory(url, back)
    put_directory(checkpoint, url)

    die_while("get_file", back, url)
    assert not back.exists()
    get_directory(url, back)
    verify(back)
    assert (back / "report" / "picture.svg").read_text() == "<svg/>"

    # Put again over what is there: torn in the midst, it is not there at all.
    die_while("put_file", checkpoint, url)
    system, root = fsspec.core.url_to_fs(url)
    system.invalidate_cache()
    assert not system.exists(f"{root}/{MANIFEST}")


def test_a_store_that_is_away_is_told_in_one_sentence(
    store: str, checkpoint: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:9")
    fsspec.filesystem("s3").clear_instance_cache()
    with pytest.raises(CheckpointError, match="cannot be written") as caught:
        put_directory(checkpoint, f"{store}/small")
    assert "\n" not in str(caught.value)
    with pytest.raises(CheckpointError, match="cannot be read"):
        get_directory(f"{store}/small", tmp_path / "back")


def fake_command(model: ModelEntry, port: int, settings: Settings, machine: Machine) -> list[str]:
    """A fake engine in vLLM's place."""
    del settings, machine
    module = "tests.support.fake_openai"
    return [sys.executable, "-m", module, "--port", str(port), "--name", model.name]


@pytest.mark.timeout(300 * FACTOR)
def test_a_model_that_one_machine_made_is_served_by_another(
    store: str, redis: Redis, settings: Settings, tmp_path: Path
) -> None:
    """A runner with one directory; a worker manager and a gateway with another; S3 between them."""
    from service.jobs.runner import original_entry
    from tests.support.random_vlm import write_random_llava

    write_random_llava(tmp_path / "tiny", kv_heads=4)
    registry = Registry(redis)
    registry.put_model(original_entry("tiny", tmp_path / "tiny"))
    there = settings.model_copy(update={"run_dir": tmp_path / "there", "checkpoint_store": store})
    queue = JobQueue(redis, job_timeout_s=there.job_timeout_s)
    environment = there.to_environment(there.require_redis_url())
    with running("service.jobs", log=tmp_path / "jobs.log", env=environment):
        job = queue.submit("tiny", RECIPE)
        wait_until(lambda: queue.get(job.id).status in FINAL, timeout_s=240 * FACTOR)
    assert queue.get(job.id).error is None
    made = registry.snapshot().models[job.name]
    assert made.location == f"{store}/{job.name}"
    shutil.rmtree(there.models_dir)  # the other machine never had it

    settings.models_dir.mkdir(parents=True)
    manager = WorkerManager(registry, settings, this_machine(), command=fake_command)
    try:

        def ready() -> bool:
            manager.tick()
            workers = registry.snapshot().workers
            return [w.status for w in workers if w.model == job.name] == ["ready"]

        wait_until(ready, timeout_s=60 * FACTOR)
        verify(settings.models_dir / job.name)
        with gateway_within(settings):
            url = f"{settings.gateway_url}/v1/chat/completions"
            reply = call("POST", url, chat(model=job.name))
        assert reply.status == 200
        assert reply.json()["choices"][0]["message"]["content"] == "yes"
    finally:
        manager.stop()
