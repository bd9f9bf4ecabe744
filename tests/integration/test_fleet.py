"""Workers as a service of their own, as a container runs them; a fake engine in vLLM's place."""

from __future__ import annotations

import threading
import time
from pathlib import Path

from redis import Redis

from service.registry import Registry
from service.settings import Settings
from service.workers.fleet import Fleet
from tests.integration.conftest import entry
from tests.integration.test_manager import fake_command
from tests.support.servers import wait_until


def test_a_fleet_registers_serves_shows_that_it_lives_and_stops(
    redis: Redis, settings: Settings, tmp_path: Path
) -> None:
    alive = tmp_path / "alive"
    fleet = Fleet(settings, [entry("a")], "original", alive, command=fake_command)
    stopped = threading.Event()
    running = threading.Thread(target=fleet.run, args=(stopped,))
    running.start()
    try:
        registry = Registry(redis)
        wait_until(lambda: registry.snapshot().ready_models == {"a"}, timeout_s=30.0)
        wait_until(alive.exists)
        # A model that comes later is served too; that of the other variant is another's.
        registry.put_model(entry("b"))
        registry.put_model(entry("c").model_copy(update={"variant": "compressed"}))
        wait_until(lambda: registry.snapshot().ready_models == {"a", "b"}, timeout_s=30.0)
    finally:
        stopped.set()
        running.join()
    assert {state.status for state in registry.snapshot().workers} == {"stopped"}


def test_a_fleet_waits_for_a_store_that_is_not_there_yet(settings: Settings) -> None:
    nowhere = settings.model_copy(update={"redis_url": "redis://127.0.0.1:1/0"})
    fleet = Fleet(nowhere, [entry("a")], command=fake_command)
    stopped = threading.Event()
    running = threading.Thread(target=fleet.run, args=(stopped,))
    running.start()
    time.sleep(0.3)
    assert running.is_alive()
    stopped.set()
    running.join(timeout=20)
    assert not running.is_alive()
