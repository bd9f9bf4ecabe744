"""Real compression jobs of a tiny model: RQ, a process of its own, fencing, cancel, sweeping."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import psutil
import pytest
from redis import Redis
from redis.backoff import NoBackoff
from redis.retry import Retry
from rq import Queue
from rq.serializers import JSONSerializer

from compressor.checkpoint import verify
from compressor.recipe import parse_recipe
from service.errors import IdempotencyError
from service.jobs.execution import Execution
from service.jobs.queue import QUEUES, JobQueue
from service.jobs.records import FINAL, JobRecord, JobRecords, Priority
from service.jobs.runner import original_entry
from service.registry import Registry
from service.settings import Settings
from service.store import EmbeddedValkey
from service.workers.process import GuardedProcess
from tests.integration.conftest import entry
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


def test_a_job_gives_way_to_serving(
    queue: JobQueue, runner: GuardedProcess, settings: Settings
) -> None:
    job_id = queue.submit("tiny", LONG).id
    wait_for_stage(queue, job_id, "evaluate")
    (horse,) = work_horses(runner)
    niceness = min(19, psutil.Process().nice() + settings.job_niceness)
    assert horse.nice() == niceness > psutil.Process(runner.pid).nice()
    queue.cancel(job_id)


def test_a_job_whose_process_is_killed_again_and_again_fails_and_is_cleaned_up(
    queue: JobQueue, runner: GuardedProcess, settings: Settings, redis: Redis
) -> None:
    job_id = queue.submit("tiny", LONG).id
    for attempt in range(1, settings.job_attempts + 1):
        wait_until(partial(evaluates, queue, runner, job_id, attempt), timeout_s=60.0)
        (horse,) = work_horses(runner)
        horse.send_signal(signal.SIGKILL)

    job = outcome(queue, job_id)

    assert (job.status, job.attempt) == ("failed", 3)
    assert job.error is not None
    assert "3 times: it was killed or ran out of memory" in job.error
    assert_nothing_is_left(settings, redis)


def evaluates(queue: JobQueue, runner: GuardedProcess, job_id: str, attempt: int) -> bool:
    job = queue.get(job_id)
    stage = (job.status, job.stage, job.attempt)
    return stage == ("running", "evaluate", attempt) and len(work_horses(runner)) == 1


@pytest.mark.timeout(600)  # a runner is given up after 15 s, and torch is loaded twice
def test_a_killed_runners_job_goes_on_with_another_runner_and_is_done_once(
    redis: Redis, settings: Settings, tmp_path: Path
) -> None:
    """Two runners, one job; the one that works on it dies as a whole, its job's process with it."""
    write_random_llava(tmp_path / "tiny", kv_heads=4)
    Registry(redis).put_model(original_entry("tiny", tmp_path / "tiny"))
    queue = JobQueue(redis, job_timeout_s=settings.job_timeout_s)
    environment = settings.to_environment(settings.require_redis_url())
    with (
        running("service.jobs", log=tmp_path / "jobs-1.log", env=environment) as first,
        running("service.jobs", log=tmp_path / "jobs-2.log", env=environment) as second,
    ):
        job_id = queue.submit("tiny", RECIPE | {"evaluation": {"samples": 300}}).id
        wait_for_stage(queue, job_id, "evaluate")
        busy = [runner for runner in (first, second) if work_horses(runner)]
        assert len(busy) == 1, "two runners never do one job"
        busy[0].kill()

        job = outcome(queue, job_id, timeout_s=180.0)

    assert (job.status, job.attempt, job.error) == ("finished", 2, None)
    lines = "\n".join(JobRecords(redis).logs(job_id, 100))
    assert lines.count("finished: tiny-flops0.5") == 1
    before, again = lines.split("attempt 2 of")
    assert "stage prune" in before
    assert "stage prune" not in again, "what was done is not done again"
    assert Registry(redis).snapshot().models["tiny-flops0.5"].job == job_id
    verify(settings.models_dir.resolve() / "tiny-flops0.5")


def test_an_execution_that_was_given_up_can_change_nothing(redis: Redis) -> None:
    records = JobRecords(redis)
    job, _ = records.create("tiny", "small", RECIPE)
    first = records.claim(job.id)
    assert first is not None
    assert records.claim(job.id) is None, "the first one is alive"
    again = records.requeue(job)
    assert again is not None
    assert (again.attempt, again.queue_id) == (2, f"{job.id}-2")
    assert records.requeue(job) is None, "another sweeper was first"
    second = records.claim(job.id)
    assert second is not None

    assert not records.beat(job.id, first)
    assert not records.progress(job.id, first, "score", 10)
    late = entry("small").model_copy(update={"path": "/late"})
    assert not records.end(job.id, "finished", token=first, model=late)
    assert records.progress(job.id, second, "score", 20)
    assert records.end(job.id, "finished", token=second, report={"a": 1}, model=entry("small"))

    found = records.get(job.id)
    assert found is not None
    assert (found.status, found.percent, found.report) == ("finished", 100.0, {"a": 1})
    assert Registry(redis).snapshot().models["small"].path == "/nowhere"


def test_an_execution_outlives_redis_being_killed(tmp_path: Path) -> None:
    """Its progress is lost for a moment, its end is not."""
    store = EmbeddedValkey(tmp_path / "valkey", log=tmp_path / "log")
    url = store.start()
    with Redis.from_url(url, retry=Retry(NoBackoff(), 0)) as client:
        records = JobRecords(client)
        job, _ = records.create("tiny", "small", RECIPE)
        token = records.claim(job.id)
        assert token is not None
        with Execution(records, job.id, token, parse_recipe(RECIPE)) as execution:
            execution("score", 0.0)
            store.kill()
            execution("prune", 0.5)
            ending = threading.Thread(target=execution.end, args=("finished",))
            ending.start()
            time.sleep(0.5)
            assert store.start() == url
            ending.join(timeout=20)
        found = records.get(job.id)
    store.stop()
    assert found is not None
    assert (found.status, found.stage) == ("finished", "score")


def test_one_key_makes_one_job_however_often_it_comes(redis: Redis) -> None:
    Registry(redis).put_model(entry("tiny"))
    queue = JobQueue(redis, job_timeout_s=60)
    with ThreadPoolExecutor(8) as pool:
        jobs = list(pool.map(lambda _: queue.submit("tiny", RECIPE, key="k1"), range(16)))
    assert len({job.id for job in jobs}) == 1
    assert len(queue.list()) == 1
    assert sum(Queue(name, connection=redis).count for name in QUEUES.values()) == 1
    with pytest.raises(IdempotencyError, match="'k1' was used for another request"):
        queue.submit("tiny", RECIPE | {"flops": 0.4}, key="k1")


def test_jobs_that_are_submitted_at_once_get_different_names(redis: Redis) -> None:
    Registry(redis).put_model(entry("tiny"))
    queue = JobQueue(redis, job_timeout_s=60)
    with ThreadPoolExecutor(8) as pool:
        jobs = list(pool.map(lambda _: queue.submit("tiny", RECIPE), range(8)))
    assert len({job.name for job in jobs}) == 8


def test_jobs_of_a_higher_priority_go_first(redis: Redis) -> None:
    queue = JobQueue(redis, job_timeout_s=60)
    order: list[Priority] = ["low", "normal", "high"]
    made = [queue.submit("tiny", RECIPE, priority=priority).id for priority in order]
    queues = [Queue(n, connection=redis, serializer=JSONSerializer) for n in QUEUES.values()]
    taken = []
    while found := Queue.dequeue_any(queues, None, connection=redis, serializer=JSONSerializer):
        taken.append(found[0].id)
    assert taken == made[::-1]


def test_a_job_that_is_over_is_kept_for_the_time_that_is_set(redis: Redis) -> None:
    records = JobRecords(redis, ttl_s=1)
    over, _ = records.create("tiny", "small", RECIPE)
    waiting, _ = records.create("tiny", "other", RECIPE)
    records.log(over.id, "a line")
    records.end(over.id, "cancelled")
    assert records.logs(over.id, 10) == ["a line"]
    time.sleep(1.2)
    assert [job.id for job in records.list()] == [waiting.id]
    assert records.logs(over.id, 10) == []
    assert redis.zcard("infoprune:jobs") == 1


def test_a_job_that_is_over_stays_so(redis: Redis) -> None:
    records = JobRecords(redis)
    job_id = records.create("tiny", "small", RECIPE)[0].id
    assert records.end(job_id, "cancelled")

    assert records.claim(job_id) is None
    assert not records.end(job_id, "failed", error="late")
    found = records.get(job_id)
    assert found is not None
    assert (found.status, found.error) == ("cancelled", None)


def test_jobs_are_listed_from_the_newest(redis: Redis) -> None:
    records = JobRecords(redis)
    ids = [records.create("tiny", f"n{i}", RECIPE)[0].id for i in range(3)]
    assert [job.id for job in records.list()] == ids[::-1]
    assert records.get("none") is None
