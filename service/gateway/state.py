"""What the gateway's endpoints share: registry snapshot, keys, workers, limits, requests in hand."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import structlog
from redis import Redis
from redis.exceptions import RedisError

from service.gateway.auth import Keyring
from service.gateway.body import ByteBudget
from service.gateway.call import Call
from service.gateway.discovery import Elsewhere
from service.gateway.exchange import Observer
from service.gateway.fetch import ImageFetcher
from service.gateway.pool import Pool, Slot
from service.gateway.probes import Prober
from service.jobs.queue import JobQueue
from service.jobs.records import JobRecords
from service.keys import KeyStore
from service.registry import Registry, Snapshot, was_lost
from service.settings import Settings
from service.telemetry import Metrics
from service.telemetry.access import AccessLog

if TYPE_CHECKING:
    from service.telemetry.otel import Tracing

log = structlog.get_logger()
SWEEP_S = 0.25


@dataclass
class Gateway:
    """The gateway's state. The snapshot outlives Redis being away: serving goes on."""

    settings: Settings
    redis: Redis
    metrics: Metrics = field(default_factory=Metrics)
    snapshot: Snapshot = field(default_factory=Snapshot)
    store_reachable: bool = False
    observers: list[Observer] = field(default_factory=list)
    """They hear of every answered request."""
    calls: set[Call] = field(default_factory=set)
    """Requests in hand."""
    draining: bool = False
    tracing: Tracing | None = None
    access: AccessLog | None = None

    def __post_init__(self) -> None:
        settings = self.settings
        self.queue = JobQueue(
            self.redis, job_timeout_s=settings.job_timeout_s, job_ttl_s=settings.job_ttl_s
        )
        self.keys = Keyring(enabled=settings.auth == "keys")
        self.bytes = ByteBudget(settings.max_bytes_in_flight)
        self.pool = Pool(settings, self._worker_changed, self._standing_changed)
        self.images = ImageFetcher(settings, self.bytes)
        self._reading = asyncio.Lock()
        self._elsewhere = Elsewhere(settings.workers)
        self._prober = Prober(settings)
        self._registry = Registry(self.redis)
        self._records = JobRecords(self.redis)
        self._key_store = KeyStore(self.redis)

    async def refresh(self) -> None:
        """Read the store once; while Redis is away the last reading stays.

        One reading at a time: one that began before a change must not replace one that saw it.
        """
        await self._elsewhere.resolve()
        async with self._reading:
            await self._read_all()

    async def _read_all(self) -> None:
        try:
            read = await asyncio.to_thread(self._read)
            self.metrics.show_jobs(await asyncio.to_thread(self._records.list))
            self.keys.replace(await asyncio.to_thread(self._key_store.list))
        except RedisError as error:
            if self.store_reachable:
                log.warning("redis is away", error=type(error).__name__)
            self.store_reachable = False
            read = self._elsewhere.without(self.snapshot)
        else:
            self.store_reachable = True
        self.metrics.store.set(self.store_reachable)
        self.snapshot = self._elsewhere.added_to(read)
        self.pool.sync(self.snapshot)
        self.metrics.show_snapshot(self.snapshot)
        self._show_pool()

    def _read(self) -> Snapshot:
        """The registry; a store that lost its data first gets back what was known. Synchronous."""
        read, known = self._registry.snapshot(), self._elsewhere.without(self.snapshot)
        if not was_lost(known, read):
            return read
        if self._registry.restore(known, self.keys.known()):
            log.error("the store had lost its data", restored="models, workers, aliases, keys")
        return self._registry.snapshot()

    async def poll(self) -> None:
        """Refresh until cancelled."""
        while True:
            await asyncio.sleep(self.settings.registry_poll_s)
            try:
                await self.refresh()
            except Exception:  # one bad record must not end all later readings
                log.exception("the registry could not be read")

    async def sweep(self) -> None:
        """End what takes too long, and serve those who wait, until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(SWEEP_S)
            now = loop.time()
            for call in list(self.calls):
                reason = call.overdue(now)
                if reason is not None:
                    call.abort(reason)
            self.pool.pump()
            if self.access is not None:
                self.access.flush()

    def drain(self) -> None:
        """Take nothing new; what is in hand may go on for `drain_timeout_s`."""
        self.draining = True
        loop = asyncio.get_running_loop()
        loop.call_later(self.settings.drain_timeout_s, self._abort_all)

    async def close(self) -> None:
        """Stop probing and close connections."""
        await self._prober.close()
        self.pool.close()
        await self.images.close()
        if self.access is not None:
            self.access.flush()
        await asyncio.sleep(0)  # what was closed just now leaves the loop

    def _abort_all(self) -> None:
        for call in list(self.calls):
            call.abort("drain")

    def _worker_changed(self, slot: Slot, joined: bool) -> None:
        if joined:
            self._prober.add(slot)
        else:
            self._prober.remove(slot)
            self._take_openings(slot)

    def _standing_changed(self, slot: Slot) -> None:
        ejected = slot.health.ejected
        log.warning("worker ejected" if ejected else "worker is back", model=slot.model, id=slot.id)
        if ejected:
            self.metrics.ejections.labels(*self._labels(slot.model)).inc()
        self.pool.pump()
        self._show_pool()

    def _show_pool(self) -> None:
        now = asyncio.get_running_loop().time()
        self.metrics.bytes_in_flight.set(self.bytes.held)
        for gauge in (self.metrics.trusted, self.metrics.waiting, self.metrics.open_breakers):
            gauge.clear()
        for name, pool in self.pool.models.items():
            labels, slots = self._labels(name), pool.slots
            self.metrics.trusted.labels(*labels).set(sum(slot.trusted(now) for slot in slots))
            self.metrics.waiting.labels(*labels).set(len(pool.queue) + len(pool.later))
            open_ = sum(slot.breaker.openings > 0 for slot in slots)
            self.metrics.open_breakers.labels(*labels).set(open_)
            for slot in slots:
                self._take_openings(slot)

    def _take_openings(self, slot: Slot) -> None:
        if slot.opened:
            self.metrics.breaker_openings.labels(*self._labels(slot.model)).inc(slot.opened)
            slot.opened = 0

    def _labels(self, model: str) -> tuple[str, str]:
        """Model and variant, as metrics have them; of one that was just deleted, as of an original."""
        entry = self.snapshot.models.get(model)
        return model, "original" if entry is None else entry.variant
