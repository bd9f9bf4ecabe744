"""Real compression jobs of a tiny model: RQ, a process of its own, fencing, cancel, sweeping."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from redis import Redis

from compressor.checkpoint import verify
from service.jobs.queue import JobQueue
from service.jobs.records import FINAL, JobRecord, JobRecords
from service.jobs.runner import original_entry
from service.registry import Registry
from service.settings import Settings
from service.workers.process import GuardedProcess
from tests.support.random_vlm import write_random_llava
from tests.support.servers import running, wait_until

RECIPE = {
    "flops": 0.5,
    "calibration": {"samples": 16},
    "evaluation": {"samples": 8},
    "round_to": 4,
}
LONG = RECIPE | {"evaluation": {"samples": 5000}}


@pytest.fixture
def runner(settings: Settings, redis: Redis, tmp_path: Path) -> Iterator[GuardedProcess]:
    """A job runner, with the original `tiny` registered."""
    write_random_llava(tmp_path / "tiny", kv_heads=4)
    Registry(redis).put_model(original_entry("tiny", tmp_path / "tiny"))
    environment = settings.to_environment(settings.require_redis_url())
    with running("service.jobs", log=tmp_path / "jobs.log", env=environment) as process:
        yield process


@pytest.fixture
def queue(runner: GuardedProcess, settings: Settings, redis: Redis) -> JobQueue:
    """The queue from which the runner takes its jobs."""
    del runner
    return JobQueue(redis, job_timeout_s=settings.job_timeout_s)


def outcome(queue: JobQueue, job_id: str, *, timeout_s: float = 60.0) -> JobRecord:
    wait_until(lambda: queue.get(job_id).status in FINAL, timeout_s=timeout_s)
    return queue.get(job_id)


def wait_for_stage(queue: JobQueue, job_id: str, stage: str) -> None:
    wait_until(lambda: queue.get(job_id).stage == stage, timeout_s=60.0)


def work_horses(runner: GuardedProcess) -> list[psutil.Process]:
    """The processes of running jobs: guard -> runner -> work horse."""
    (worker,) = psutil.Process(runner.pid).children()
    return worker.children()


def assert_nothing_is_left(settings: Settings, redis: Redis) -> None:
    # The sweeper gives a process that has just been killed a few seconds.
    wait_until(lambda: list(settings.models_dir.iterdir()) == [], timeout_s=30.0)
    assert list(Registry(redis).snapshot().models) == ["tiny"]


def test_a_job_compresses_registers_and_reports(
    queue: JobQueue, settings: Settings, redis: Redis
) -> None:
    job = outcome(queue, queue.submit("tiny", RECIPE).id)

    assert (job.status, job.error, job.percent) == ("finished", None, 100.0)
    assert job.report is not None
    wait_until(lambda: "tiny-flops0.5" in Registry(redis).snapshot().models)
    models = Registry(redis).snapshot().models
    compressed = models["tiny-flops0.5"]
    verify(settings.models_dir.resolve() / "tiny-flops0.5")
    assert compressed.base == "tiny"
    assert compressed.params < models["tiny"].params
    assert models["tiny"].accuracy["easy-vqa"].n == 8


def test_a_truncated_original_fails_in_one_sentence(
    queue: JobQueue, settings: Settings, redis: Redis, tmp_path: Path
) -> None:
    weights = tmp_path / "tiny" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-10])

    job = outcome(queue, queue.submit("tiny", RECIPE).id)

    assert job.status == "failed"
    assert job.error is not None
    assert "truncated" in job.error
    assert job.error.count(". ") == 0, "one sentence"
    assert_nothing_is_left(settings, redis)


def test_cancel_ends_the_process_and_leaves_nothing(
    queue: JobQueue, runner: GuardedProcess, settings: Settings, redis: Redis
) -> None:
    job_id = queue.submit("tiny", LONG).id
    wait_for_stage(queue, job_id, "evaluate")
    assert len(work_horses(runner)) == 1

    assert queue.cancel(job_id).status == "cancelled"

    wait_until(lambda: not work_horses(runner))
    assert_nothing_is_left(settings, redis)
    # The runner goes on to the next job.
    assert outcome(queue, queue.submit("tiny", RECIPE).id).status == "finished"


def test_a_job_whose_process_is_killed_fails_and_is_cleaned_up(
    queue: JobQueue, runner: GuardedProcess, settings: Settings, redis: Redis
) -> None:
    job_id = queue.submit("tiny", LONG).id
    wait_for_stage(queue, job_id, "evaluate")
    (horse,) = work_horses(runner)
    horse.send_signal(signal.SIGKILL)

    job = outcome(queue, job_id)

    assert job.status == "failed"
    assert job.error is not None
    assert "killed or ran out of memory" in job.error
    assert_nothing_is_left(settings, redis)


def test_an_execution_that_was_given_up_can_change_nothing(redis: Redis) -> None:
    records = JobRecords(redis)
    job_id = records.create("tiny", "small", RECIPE).id
    first = records.claim(job_id)
    second = records.claim(job_id)
    assert first is not None
    assert second is not None

    assert not records.progress(job_id, first, "score", 10)
    assert not records.end(job_id, "finished", token=first)
    assert records.progress(job_id, second, "score", 20)
    assert records.end(job_id, "finished", token=second, report={"a": 1})

    found = records.get(job_id)
    assert found is not None
    assert (found.status, found.percent, found.report) == ("finished", 100.0, {"a": 1})


def test_a_job_that_is_over_stays_so(redis: Redis) -> None:
    records = JobRecords(redis)
    job_id = records.create("tiny", "small", RECIPE).id
    assert records.end(job_id, "cancelled")

    assert records.claim(job_id) is None
    assert not records.end(job_id, "failed", error="late")
    found = records.get(job_id)
    assert found is not None
    assert (found.status, found.error) == ("cancelled", None)


def test_jobs_are_listed_from_the_newest(redis: Redis) -> None:
    records = JobRecords(redis)
    ids = [records.create("tiny", f"n{i}", RECIPE).id for i in range(3)]
    assert [job.id for job in records.list()] == ids[::-1]
    assert records.get("none") is None
