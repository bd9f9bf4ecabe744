"""The machine's clock is set forward and back by an hour while 32 clients ask: by libfaketime."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import pytest
from redis import Redis

from service.registry import Registry
from service.rollout.records import By
from service.rollout.replicas import Replicas
from service.rollout.store import RolloutStore
from tests.faults.conftest import NO_FLOPS, Service
from tests.faults.load import Load
from tests.faults.test_workers import judge
from tests.support.registry import model
from tests.support.servers import wait_until

LIBRARIES = sorted(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"))
pytestmark = pytest.mark.skipif(
    not LIBRARIES or sys.platform != "linux", reason="Debian's package faketime is not installed"
)


class Wall:
    """The clock on the wall, as all processes of the service see it."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.set(0)

    def set(self, offset_s: int) -> None:
        """Ahead of the true time by so much; in force within a second."""
        temporary = self.file.with_suffix(".new")
        temporary.write_text(f"{offset_s:+d}\n")
        temporary.rename(self.file)


@pytest.fixture
def wall(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Wall:
    """Comes before the service: its processes inherit the environment."""
    found = Wall(tmp_path / "clock")
    monkeypatch.setenv("LD_PRELOAD", str(LIBRARIES[0]))
    monkeypatch.setenv("FAKETIME_TIMESTAMP_FILE", str(found.file))
    monkeypatch.setenv("FAKETIME_CACHE_DURATION", "1")
    for name in ("FAKETIME_DONT_FAKE_MONOTONIC", "DONT_FAKE_MONOTONIC", "NO_FAKE_STAT"):
        monkeypatch.setenv(name, "1")
    return found


def store_time(service: Service) -> float:
    with Redis.from_url(service.settings.require_redis_url()) as redis:
        seconds, _ = redis.time()
        return float(seconds)


@pytest.mark.parametrize("jump_s", [3600, -3600])
def test_a_clock_that_is_set_by_an_hour(
    wall: Wall, service: Service, load: Load, jump_s: int
) -> None:
    assert "LD_PRELOAD" in os.environ
    with Redis.from_url(service.settings.require_redis_url()) as redis:
        registry = Registry(redis)
        registry.put_model(model("leaving", flops=NO_FLOPS))
        before = {(worker.id, worker.pid) for worker in service.workers()}
        wall.set(jump_s)
        started = time.monotonic()
        wait_until(lambda: abs(store_time(service) - time.time() - jump_s) < 60)
        RolloutStore(redis).retire("leaving", By())
        wait_until(lambda: registry.snapshot().models["leaving"].state == "retired")
        wait_until(lambda: len(Replicas(redis).alive()) == 1)
        seconds = time.monotonic() - started
        time.sleep(3.0)
        after = {w for w in service.workers() if w.model == "tiny"}
        assert {(worker.id, worker.pid) for worker in after} == before
        wall.set(0)
        time.sleep(3.0)
        assert service.recovered()
    judge(
        f"clock set {'forward' if jump_s > 0 else 'back'} by an hour and right again", load, seconds
    )
