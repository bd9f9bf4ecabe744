"""What a gateway does beside answering: reports that it lives, sends its counts, controls roll-outs."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from functools import partial

import structlog
from prometheus_client import Gauge
from redis.exceptions import RedisError

from service.evaluations.automatic import submit_due
from service.gateway.comparison_metrics import ComparisonMetrics, pairs_of
from service.gateway.exposition import ReplicaFiles
from service.gateway.shadow import Comparer
from service.gateway.state import Gateway
from service.rollout.controller import Controller, Duty
from service.rollout.counters import PairCounters, read_comparison
from service.rollout.replicas import Replica, Replicas

log = structlog.get_logger()


@asynccontextmanager
async def controlling(gateway: Gateway, *duties: Duty) -> AsyncIterator[None]:
    """Compare and control until the block ends; a copy of a request that is under way is given up."""
    control = _Control(gateway, duties)
    gateway.observers.append(control.comparer)
    task = asyncio.create_task(control.run())
    try:
        yield
    finally:
        gateway.observers.remove(control.comparer)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        await control.close()


def duties(gateway: Gateway) -> tuple[Duty, ...]:
    """What one gateway does for all, beside moving canaries."""
    settings = gateway.settings
    if not settings.evaluate_finished:
        return ()
    return (partial(submit_due, gateway.redis, settings),)


class _Control:
    def __init__(self, gateway: Gateway, duties: tuple[Duty, ...]) -> None:
        settings = gateway.settings
        self._gateway, self._id = gateway, uuid.uuid4().hex[:12]
        self._counters = PairCounters(self._id)
        self._replicas = Replicas(gateway.redis)
        self._metrics = ComparisonMetrics(gateway.metrics.registry, lambda: gateway.snapshot)
        self.comparer = Comparer(
            lambda: gateway.snapshot,
            self._counters,
            self._metrics,
            gateway.pool,
            limit=settings.shadow_concurrency,
            limit_s=settings.request_timeout_s,
        )
        self._files = ReplicaFiles.of(settings)
        self._controller = Controller(
            gateway.redis, self._id, drain_limit_s=settings.drain_limit_s, duties=duties
        )

    async def run(self) -> None:
        """Look after everything until cancelled."""
        while True:
            await asyncio.sleep(self._gateway.settings.control_every_s)
            try:
                await self._tick()
            except RedisError:
                log.info("roll-outs stand still", reason="redis is away")
            except Exception:  # the next look must come, whatever this one met
                log.exception("a look at the roll-outs failed")

    async def close(self) -> None:
        """Send what was counted, and let another gateway control."""
        await self.comparer.close()
        if self._files is not None:
            self._files.forget()
        self._counters.close_batch()
        with suppress(RedisError):
            await asyncio.to_thread(self._leave)

    async def _tick(self) -> None:
        self._counters.close_batch()
        replica = Replica(
            id=self._id,
            in_flight=in_flight_by_model(self._gateway.metrics.in_flight, self.comparer.in_flight),
            revision=self._gateway.snapshot.revision,
            reported=time.time(),
        )
        if self._files is not None:
            await asyncio.to_thread(self._files.write, self._gateway.metrics.registry)
        await asyncio.to_thread(self._report, replica)

    def _report(self, replica: Replica) -> None:
        self._replicas.report(replica)
        self._counters.send(self._gateway.redis)
        self._controller.tick()
        redis, pairs = self._gateway.redis, pairs_of(self._gateway.snapshot)
        self._metrics.show_comparisons({pair: read_comparison(redis, pair) for pair in pairs})

    def _leave(self) -> None:
        self._counters.send(self._gateway.redis)
        self._replicas.forget(self._id)
        self._controller.release()


def in_flight_by_model(clients: Gauge, copies: Mapping[str, int]) -> dict[str, int]:
    """Requests that this gateway has under way, by model: clients' and copies."""
    found = Counter(copies)
    for metric in clients.collect():
        for sample in metric.samples:
            found[sample.labels["model"]] += int(sample.value)
    return {model: count for model, count in found.items() if count > 0}
