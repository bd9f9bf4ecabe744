"""The worker manager with a fake engine in real processes."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from redis import Redis

from service.registry import ModelEntry, Registry, Variant, WorkerState
from service.settings import Settings
from service.workers.machine import this_machine
from service.workers.manager import WorkerManager
from service.workers.vllm_command import Machine
from tests.integration.conftest import entry
from tests.support.servers import wait_until


def fake_command(model: ModelEntry, port: int, settings: Settings, machine: Machine) -> list[str]:
    """A fake engine; the model `broken` has one that ends at once."""
    del machine
    if model.name == "broken":
        return [sys.executable, "-c", "raise SystemExit('OSError: no such model')"]
    module = "tests.support.fake_openai"
    where = ["--host", settings.worker_host, "--port", str(port)]
    return [sys.executable, "-m", module, *where, "--name", model.name]


@pytest.fixture
def manager(redis: Redis, settings: Settings) -> Iterator[WorkerManager]:
    found = WorkerManager(Registry(redis), settings, this_machine(), command=fake_command)
    yield found
    found.stop()


def tick_until(manager: WorkerManager, redis: Redis, model: str, status: str) -> WorkerState:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        manager.tick()
        for state in Registry(redis).snapshot().workers:
            if (state.model, state.status) == (model, status):
                return state
        time.sleep(0.05)
    raise AssertionError(f"{model} is not {status}")


def test_every_registered_model_gets_a_worker(manager: WorkerManager, redis: Redis) -> None:
    for name in ("a", "b"):
        Registry(redis).put_model(entry(name))
    urls = {tick_until(manager, redis, name, "ready").url for name in ("a", "b")}
    assert len(urls) == 2


def test_a_model_of_an_earlier_run_that_is_gone_gets_none(
    redis: Redis, settings: Settings, tmp_path: Path
) -> None:
    found = WorkerManager(
        Registry(redis), settings, this_machine(), command=fake_command, roots=[Path("/")]
    )
    Registry(redis).put_model(entry("a", path=str(tmp_path / "removed")))
    refused = tick_until(found, redis, "a", "backoff")
    assert refused.error is not None
    assert "is gone; `infoprune models retire` it" in refused.error
    assert refused.pid is None
    found.stop()


def test_what_a_worker_uses_is_measured_its_engines_kv_cache_too(
    manager: WorkerManager, redis: Redis
) -> None:
    Registry(redis).put_model(entry("a"))
    assert tick_until(manager, redis, "a", "ready").usage is None
    manager.tick()  # the first measure follows at once, the next ones every five seconds
    usage = tick_until(manager, redis, "a", "ready").usage
    assert usage is not None
    assert usage.cpu_s > 0
    assert usage.resident_bytes > 10 << 20
    assert usage.kv_cache_used == 0.0, "as in the recording that the fake engine shows"


def test_a_worker_that_dies_is_started_again(manager: WorkerManager, redis: Redis) -> None:
    Registry(redis).put_model(entry("a"))
    first = tick_until(manager, redis, "a", "ready")
    assert first.pid is not None
    psutil.Process(first.pid).kill()

    failed = tick_until(manager, redis, "a", "backoff")
    assert failed.error is not None
    second = tick_until(manager, redis, "a", "ready")

    assert second.pid != first.pid
    assert (second.restarts, second.error) == (1, None)


def test_an_engine_that_does_not_start_is_reported_with_its_reason(
    manager: WorkerManager, redis: Redis
) -> None:
    Registry(redis).put_model(entry("broken"))
    failed = tick_until(manager, redis, "broken", "backoff")
    assert failed.error == "vLLM ended with status 1: OSError: no such model"


def test_the_worker_of_a_forgotten_model_leaves_the_choice_first_and_is_stopped_later(
    manager: WorkerManager, redis: Redis
) -> None:
    registry = Registry(redis)
    registry.put_model(entry("a"))
    state = tick_until(manager, redis, "a", "ready")
    assert state.pid is not None

    registry.remove_model("a")
    manager.tick()
    assert registry.snapshot().workers == ()
    assert psutil.pid_exists(state.pid), "what it has in hand may go on"

    def gone() -> bool:
        manager.tick()
        return not psutil.pid_exists(state.pid or 0)

    wait_until(gone)


def test_a_model_has_as_many_workers_as_the_settings_say(redis: Redis, settings: Settings) -> None:
    two = settings.model_copy(update={"workers_per_model": 2})
    manager = WorkerManager(Registry(redis), two, this_machine(), command=fake_command)
    try:
        Registry(redis).put_model(entry("a"))

        def both_ready() -> bool:
            manager.tick()
            states = Registry(redis).snapshot().workers
            return [state.status for state in states] == ["ready", "ready"]

        wait_until(both_ready)
        assert len({state.url for state in Registry(redis).snapshot().workers}) == 2
    finally:
        manager.stop()


def test_a_model_outside_the_allowed_directories_is_not_started(
    manager: WorkerManager, redis: Redis
) -> None:
    Registry(redis).put_model(entry("a", path="/nowhere/../etc"))
    refused = tick_until(manager, redis, "a", "backoff")
    assert refused.error is not None
    assert "INFOPRUNE_MODEL_ROOTS" in refused.error
    assert refused.pid is None


def test_workers_elsewhere_are_neither_started_nor_forgotten(
    manager: WorkerManager, redis: Redis
) -> None:
    registry = Registry(redis)
    registry.put_model(entry("far", path=""))
    far = WorkerState(id="far", model="far", url="http://x", status="ready", managed=False)
    registry.put_worker(far)
    manager.forget_stale()
    manager.tick()
    assert registry.snapshot().workers == (far,)


def test_workers_run_on_while_redis_is_away(manager: WorkerManager, redis: Redis) -> None:
    Registry(redis).put_model(entry("a"))
    state = tick_until(manager, redis, "a", "ready")
    assert state.pid is not None
    redis.shutdown(nosave=True)

    for _ in range(3):
        manager.tick()

    assert psutil.pid_exists(state.pid)


def test_what_an_earlier_run_left_is_forgotten(manager: WorkerManager, redis: Redis) -> None:
    registry = Registry(redis)
    registry.put_worker(WorkerState(id="old", model="a", url="http://x", status="ready"))
    manager.forget_stale()
    assert registry.snapshot().workers == ()


def test_managers_on_two_machines_keep_to_their_own(redis: Redis, settings: Settings) -> None:
    """Each serves one variant and forgets no worker of the other's."""
    registry = Registry(redis)
    registry.put_model(entry("a"))
    registry.put_model(entry("b").model_copy(update={"variant": "compressed", "base": "a"}))
    machines: list[tuple[str, Variant]] = [("127.0.0.2", "original"), ("127.0.0.3", "compressed")]
    here = [
        WorkerManager(
            registry,
            settings.model_copy(update={"worker_host": host, "worker_advertise": host}),
            this_machine(),
            command=fake_command,
            only=only,
        )
        for host, only in machines
    ]
    try:
        found = [
            tick_until(manager, redis, model, "ready")
            for manager, model in zip(here, ("a", "b"), strict=True)
        ]
        assert [state.keeper for state in found] == ["127.0.0.2", "127.0.0.3"]
        assert [state.url.rpartition(":")[0] for state in found] == [
            "http://127.0.0.2", "http://127.0.0.3",
        ]  # fmt: skip
        assert all(manager.all_ready() for manager in here)
        again = WorkerManager(
            registry,
            settings.model_copy(
                update={"worker_host": "127.0.0.3", "worker_advertise": "127.0.0.3"}
            ),
            this_machine(),
        )
        again.forget_stale()
        assert [state.model for state in registry.snapshot().workers] == ["a"]
    finally:
        for manager in here:
            manager.stop()
