"""Two real runners that share one place."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from redis import Redis

from service.jobs.places import PLACES_KEY
from service.jobs.queue import JobQueue
from service.jobs.records import FINAL
from service.jobs.runner import original_entry
from service.registry import Registry
from service.settings import Settings
from tests.conftest import FACTOR
from tests.integration.test_jobs import RECIPE
from tests.support.random_vlm import write_random_llava
from tests.support.servers import running, wait_until


@pytest.mark.timeout(300 * FACTOR)
def test_two_runners_with_one_place_do_one_job_at_a_time_and_all_of_them(
    redis: Redis, settings: Settings, tmp_path: Path
) -> None:
    write_random_llava(tmp_path / "tiny", kv_heads=4)
    Registry(redis).put_model(original_entry("tiny", tmp_path / "tiny"))
    queue = JobQueue(redis, job_timeout_s=settings.job_timeout_s)
    limited = settings.model_copy(update={"job_limit": 1})
    environment = limited.to_environment(limited.require_redis_url())
    jobs = [queue.submit("tiny", RECIPE).id for _ in range(3)]
    most, seen = 0, Counter[str]()

    def over() -> bool:
        nonlocal most
        states = [queue.get(job).status for job in jobs]
        seen.update(states)
        most = max(most, states.count("running"))
        return all(state in FINAL for state in states)

    with (
        running("service.jobs", log=tmp_path / "jobs-1.log", env=environment) as first,
        running("service.jobs", log=tmp_path / "jobs-2.log", env=environment) as second,
    ):
        wait_until(
            lambda: "running" in [queue.get(job).status for job in jobs], timeout_s=60 * FACTOR
        )
        holder = redis.zrange(PLACES_KEY, 0, -1)
        assert len(holder) == 1
        wait_until(over, timeout_s=240 * FACTOR)
        assert first.poll() is second.poll() is None
    assert [queue.get(job).status for job in jobs] == ["finished"] * 3
    assert most == 1
    assert seen["running"] > 0
