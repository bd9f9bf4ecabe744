"""The gateway's own copy of the registry."""

from __future__ import annotations

import asyncio
import threading

import pytest
from redis import Redis

from service.gateway.state import Gateway
from service.registry import Registry, Snapshot
from service.settings import Settings
from tests.support.registry import model


async def test_a_reading_that_began_before_a_change_does_not_hide_it(
    settings: Settings, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    began, may_end = threading.Event(), threading.Event()
    read = Registry.snapshot

    def slow_at_first(registry: Registry) -> Snapshot:
        found = read(registry)
        if not began.is_set():
            began.set()
            may_end.wait(10)
        return found

    monkeypatch.setattr(Registry, "snapshot", slow_at_first)
    Registry(redis).put_model(model("known"))
    gateway = Gateway(settings, redis)
    polled = asyncio.create_task(gateway.refresh())
    await asyncio.to_thread(began.wait)
    Registry(redis).put_model(model("new"))
    changed = asyncio.create_task(gateway.refresh())
    await asyncio.wait({changed}, timeout=0.5)
    may_end.set()
    await asyncio.gather(polled, changed)
    assert "new" in gateway.snapshot.models
