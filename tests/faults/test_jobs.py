"""The job runner dies, its store falls silent, its disk is full: no job is lost or done twice."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import pytest
from redis import Redis

from compressor.checkpoint import sha256_of, verify
from compressor.job import STAGES, Stage
from compressor.pipeline import compress
from compressor.recipe import parse_recipe
from service.jobs.queue import JobQueue
from service.jobs.records import FINAL, JobRecord, JobRecords
from service.jobs.runner import original_entry
from service.registry import Registry
from service.settings import Settings
from service.store import EmbeddedValkey
from service.workers.process import GuardedProcess
from tests.conftest import FACTOR
from tests.faults.conftest import Service
from tests.faults.figures import Figures, record
from tests.faults.load import Load
from tests.faults.test_store import SILENT_S, process_of
from tests.faults.test_workers import judge
from tests.support.disk import fill, small_disk
from tests.support.killed_job import DIES_AT, RUN_JOB
from tests.support.random_vlm import write_random_llava
from tests.support.servers import running, wait_until

RECIPE = {
    "flops": 0.5,
    "calibration": {"samples": 16},
    "evaluation": {"samples": 8},
    "recovery": {"steps": 4, "batch": 4, "samples": 16},
    "round_to": 4,
}
LONG = RECIPE | {"evaluation": {"samples": 400}}
PATIENCE_S = 120.0 * FACTOR


@dataclass(frozen=True)
class Straight:
    """A model, and what an undisturbed compression makes of it."""

    model: Path
    digests: dict[str, str]


def digests(directory: Path) -> dict[str, str]:
    return {
        str(p.relative_to(directory)): sha256_of(p) for p in directory.rglob("*") if p.is_file()
    }


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> Straight:
    home = tmp_path_factory.mktemp("straight")
    write_random_llava(home / "tiny", kv_heads=4)
    compress(home / "tiny", parse_recipe(RECIPE), home / "out")
    return Straight(home / "tiny", digests(home / "out"))


@pytest.fixture
def store(tmp_path: Path) -> Iterator[EmbeddedValkey]:
    found = EmbeddedValkey(tmp_path / "valkey", log=tmp_path / "valkey.log")
    found.start()
    yield found
    found.stop()


@pytest.fixture
def settings(store: EmbeddedValkey, tmp_path: Path) -> Settings:
    return Settings(auth="off", redis_url=store.start(), run_dir=tmp_path / "run")


@pytest.fixture
def redis(settings: Settings) -> Iterator[Redis]:
    with Redis.from_url(settings.require_redis_url()) as client:
        yield client


def runner(settings: Settings, log: Path, **more: str) -> AbstractContextManager[GuardedProcess]:
    environment = settings.to_environment(settings.require_redis_url()) | more
    return running("service.jobs", log=log, env=environment)


def over(queue: JobQueue, job_id: str) -> JobRecord:
    wait_until(lambda: queue.get(job_id).status in FINAL, timeout_s=PATIENCE_S)
    return queue.get(job_id)


def log_of(redis: Redis, job_id: str) -> str:
    return "\n".join(JobRecords(redis).logs(job_id, 500))


def assert_done_once(
    redis: Redis, settings: Settings, job: JobRecord, made: dict[str, str]
) -> None:
    """Registered by this job, once, with the very bits, and nothing is left beside it."""
    assert (job.status, job.error) == ("finished", None)
    # The last line comes just after the status.
    wait_until(lambda: log_of(redis, job.id).count("finished: ") > 0)
    assert log_of(redis, job.id).count(f"finished: {job.name}") == 1
    assert Registry(redis).snapshot().models[job.name].job == job.id
    found = settings.models_dir / job.name
    verify(found)
    assert digests(found) == made
    wait_until(lambda: [p.name for p in settings.models_dir.iterdir()] == [job.name])


@pytest.mark.parametrize("stage", STAGES)
def test_kill_9_of_the_job_runner_at_each_stage(
    stage: Stage,
    straight: Straight,
    settings: Settings,
    redis: Redis,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The runner and its job's process die as the stage begins; another runner ends the job."""
    Registry(redis).put_model(original_entry("tiny", straight.model))
    queue = JobQueue(redis, job_timeout_s=settings.job_timeout_s)
    with monkeypatch.context() as patched:
        patched.setattr("service.jobs.queue.RUNNER", RUN_JOB)
        job_id = queue.submit("tiny", RECIPE).id
    with runner(settings, tmp_path / "first.log", **{DIES_AT: stage}) as first:
        wait_until(lambda: first.poll() is not None, timeout_s=PATIENCE_S)
    found = queue.get(job_id)
    assert (found.status, found.stage, found.attempt) == ("running", stage, 1)
    assert not (settings.models_dir / found.name).exists()
    died = time.monotonic()
    with runner(settings, tmp_path / "second.log"):
        job = over(queue, job_id)
        seconds = time.monotonic() - died
        assert job.attempt == 2
        assert_done_once(redis, settings, job, straight.digests)
    record(Figures(f"kill -9 of the job runner at {stage}", seconds, lost=0, remark="job done"))


def test_a_store_that_is_cut_off_while_a_job_runs(
    straight: Straight, settings: Settings, store: EmbeddedValkey, redis: Redis, tmp_path: Path
) -> None:
    """The job computes on; its signs of life are missed, and it is not given to another."""
    Registry(redis).put_model(original_entry("tiny", straight.model))
    queue = JobQueue(redis, job_timeout_s=settings.job_timeout_s)
    with runner(settings, tmp_path / "jobs.log"):
        job_id = queue.submit("tiny", RECIPE | {"evaluation": {"samples": 2000}}).id
        wait_until(lambda: queue.get(job_id).stage == "evaluate", timeout_s=PATIENCE_S)
        silent = process_of(store)
        silent.send_signal(signal.SIGSTOP)
        try:
            time.sleep(SILENT_S)
        finally:
            silent.send_signal(signal.SIGCONT)
        back = time.monotonic()
        job = over(queue, job_id)
    assert (job.status, job.error, job.attempt) == ("finished", None, 1)
    assert log_of(redis, job_id).count("begins") == 1
    remark = "job done at its first attempt"
    seconds = time.monotonic() - back
    record(Figures("store cut off for 30 s during a job", seconds, lost=0, remark=remark))


def test_a_full_disk_fails_the_job_in_one_sentence_and_the_service_serves_on(
    service: Service, load: Load, straight: Straight, tmp_path: Path
) -> None:
    settings = service.settings
    with (
        Redis.from_url(settings.require_redis_url()) as redis,
        small_disk(settings.models_dir) as disk,
    ):
        registry = Registry(redis)
        registry.put_model(original_entry("vlm", straight.model))
        known = registry.snapshot().models
        queue = JobQueue(redis, job_timeout_s=settings.job_timeout_s)
        with runner(settings, tmp_path / "jobs.log"):
            job_id = queue.submit("vlm", LONG).id
            wait_until(lambda: queue.get(job_id).stage == "evaluate", timeout_s=PATIENCE_S)
            ballast = fill(disk)
            job = over(queue, job_id)
            assert job.status == "failed"
            assert job.error is not None
            assert "free some space" in job.error
            assert job.error.count(". ") == 0, "one sentence"
            assert registry.snapshot().models == known, "nothing is registered half"
            wait_until(lambda: [p.name for p in disk.iterdir()] == ["ballast"])
            ballast.unlink()
            freed = time.monotonic()
            again = over(queue, queue.submit("vlm", RECIPE).id)
            seconds = time.monotonic() - freed
            assert (again.status, again.error) == ("finished", None)
            verify(settings.models_dir / again.name)
    judge("disk full during a job", load, seconds, "until the next job is done")
