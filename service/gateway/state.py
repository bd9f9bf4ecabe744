"""What the gateway's endpoints share: the last registry snapshot, metrics, the worker session."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, field

import aiohttp
import structlog
from redis import Redis
from redis.exceptions import RedisError

from service.gateway.exchange import Observer
from service.jobs.queue import JobQueue
from service.jobs.records import JobRecords
from service.registry import Registry, Snapshot
from service.settings import Settings
from service.telemetry import Metrics

log = structlog.get_logger()


@dataclass
class Gateway:
    """The gateway's state. The snapshot outlives Redis being away: serving goes on."""

    settings: Settings
    redis: Redis
    session: aiohttp.ClientSession
    metrics: Metrics = field(default_factory=Metrics)
    snapshot: Snapshot = field(default_factory=Snapshot)
    store_reachable: bool = False
    load: Counter[str] = field(default_factory=Counter)
    """Requests in flight by worker id."""
    observers: list[Observer] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.queue = JobQueue(
            self.redis,
            job_timeout_s=self.settings.job_timeout_s,
            job_ttl_s=self.settings.job_ttl_s,
        )
        self._registry = Registry(self.redis)
        self._records = JobRecords(self.redis)

    async def refresh(self) -> None:
        """Read the registry and the jobs once; while Redis is away the last reading stays."""
        try:
            self.snapshot = await asyncio.to_thread(self._registry.snapshot)
            self.metrics.show_jobs(await asyncio.to_thread(self._records.list))
        except RedisError as error:
            if self.store_reachable:
                log.warning("redis is away", error=str(error))
            self.store_reachable = False
            return
        self.store_reachable = True
        self.metrics.show_snapshot(self.snapshot)

    async def poll(self) -> None:
        """Refresh until cancelled."""
        while True:
            await asyncio.sleep(self.settings.registry_poll_s)
            await self.refresh()
