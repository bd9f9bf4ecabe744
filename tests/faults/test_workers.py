"""A worker dies, hangs or talks nonsense while 32 clients ask."""

from __future__ import annotations

import signal
import time

import psutil
import pytest

from tests.faults.conftest import Service
from tests.faults.figures import Figures, record
from tests.faults.load import Load
from tests.support.http import call
from tests.support.servers import wait_until


def judge(name: str, load: Load, seconds: float, remark: str = "") -> None:
    """The bar: nothing lost that did not stream, no stream in silence; the figures are kept."""
    load.stop()
    plain, streams = load.plain, load.streams
    record(
        Figures(
            name,
            recovered_s=seconds,
            requests=plain.good,
            lost=len(plain.lost) + len(streams.lost),
            slowest_s=plain.slowest_s,
            streams=streams.good,
            told=streams.told,
            remark=remark,
        )
    )
    assert plain.lost == []
    assert streams.lost == []
    assert plain.good > 50
    assert streams.good > 10


def test_kill_9_of_a_worker(service: Service, load: Load) -> None:
    victim = service.workers()[0]
    service.engine(victim).kill()
    started = time.monotonic()
    wait_until(lambda: len(service.workers()) < 2)
    wait_until(lambda: len(service.workers()) == 2 and service.recovered(), timeout_s=60)
    seconds = time.monotonic() - started
    time.sleep(1.0)
    judge("kill -9 of a worker", load, seconds)


def test_a_worker_that_is_stopped_and_goes_on(service: Service, load: Load) -> None:
    engine: psutil.Process = service.engine(service.workers()[0])
    engine.send_signal(signal.SIGSTOP)
    try:
        started = time.monotonic()
        wait_until(lambda: not service.recovered(), timeout_s=30)
        ejected = time.monotonic() - started
        time.sleep(3.0)
    finally:
        engine.send_signal(signal.SIGCONT)
    wait_until(service.recovered, timeout_s=30)
    judge("SIGSTOP of a worker", load, time.monotonic() - started, f"seen in {ejected:.1f} s")


@pytest.mark.parametrize(
    "fault",
    ["inner_error", "garbage", "no_json", "trickle", "reset", "break", "unended", "unhealthy"],
)
def test_a_worker_that_answers_badly(service: Service, load: Load, fault: str) -> None:
    url = service.workers()[0].url
    assert call("POST", f"{url}/mode", fault.encode()).status == 200
    time.sleep(4.0)
    assert call("POST", f"{url}/mode", b"ok").status == 200
    started = time.monotonic()
    wait_until(service.recovered, timeout_s=60)
    seconds = time.monotonic() - started
    time.sleep(1.0)
    judge(f"worker answers badly: {fault}", load, seconds)
