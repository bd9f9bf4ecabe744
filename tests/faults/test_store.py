"""The store dies or falls silent while 32 clients ask."""

from __future__ import annotations

import shutil
import signal
import time

import psutil
from redis import Redis

from service.registry import Registry
from service.store import EmbeddedValkey
from tests.faults.conftest import Service
from tests.faults.load import Load
from tests.faults.test_workers import judge
from tests.support.http import call
from tests.support.servers import wait_until

SILENT_S = 30.0


def process_of(store: EmbeddedValkey) -> psutil.Process:
    """The server below its guard."""
    assert store.pid is not None
    (child,) = psutil.Process(store.pid).children()
    return child


def reachable(service: Service) -> bool:
    return bool(call("GET", f"{service.settings.gateway_url}/ready").json()["store"] == "reachable")


def test_kill_9_of_the_store_and_its_return(service: Service, load: Load) -> None:
    process_of(service.store).kill()
    wait_until(lambda: not reachable(service))
    time.sleep(2.0)
    started = time.monotonic()
    service.store.start()  # what the supervisor does
    wait_until(lambda: reachable(service))
    seconds = time.monotonic() - started
    assert service.recovered()
    judge("kill -9 of the store", load, seconds)


def test_a_store_that_is_cut_off_for_half_a_minute(service: Service, load: Load) -> None:
    store = process_of(service.store)
    store.send_signal(signal.SIGSTOP)
    try:
        time.sleep(SILENT_S)
    finally:
        store.send_signal(signal.SIGCONT)
    started = time.monotonic()
    wait_until(lambda: reachable(service))
    judge("store cut off for 30 s", load, time.monotonic() - started)


def test_a_store_that_comes_back_empty(service: Service, load: Load) -> None:
    """Nobody asked to take the model out of service: it is served on, by the same workers."""
    before = {(worker.id, worker.pid) for worker in service.workers()}
    process_of(service.store).kill()
    wait_until(lambda: not reachable(service))
    service.store.kill()
    shutil.rmtree(service.settings.run_dir.parent / "valkey")
    started = time.monotonic()
    service.store.start()
    wait_until(lambda: reachable(service) and len(service.workers()) == 2)
    seconds = time.monotonic() - started
    time.sleep(3.0)  # the manager has looked several times, and the drain time is over
    assert {(worker.id, worker.pid) for worker in service.workers()} == before
    assert service.recovered()
    with Redis.from_url(service.settings.require_redis_url()) as redis:
        assert list(Registry(redis).snapshot().models) == ["tiny"]
    judge("store comes back empty", load, seconds)
