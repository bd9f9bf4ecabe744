"""The workers of every model: who is trusted, who is busy, and who waits for one.

The decisions are `service.routing`'s; this keeps the counts that they look at.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Collection
from dataclasses import dataclass, field

from service.errors import OverloadedError, WorkerNotReadyError
from service.gateway.call import Call
from service.gateway.origin import Origin
from service.registry import Snapshot, WorkerState
from service.routing.balance import choose
from service.routing.breaker import CLOSED, Breaker, Health
from service.settings import Settings

BUSY_S = 0.25
LONGEST_BUSY_S = 2.0
RECOVERY_S = 5.0
"""How long a request waits where all workers of its model are ejected; engines take longer to start."""


class NoOtherWorkerError(Exception):
    """All workers of the model were tried."""


@dataclass(eq=False)
class Slot:
    """One worker, as the gateway sees it. A worker that starts again elsewhere gets a new one."""

    id: str
    model: str
    origin: Origin
    changed: Callable[[Slot], None]
    """Hears when it is ejected, and when it is back."""
    in_flight: int = 0
    breaker: Breaker = CLOSED
    health: Health = field(default_factory=Health)
    busy_until: float = 0.0
    opened: int = 0
    """Times that its breaker opened, since the metrics last took them."""
    calls: set[Call] = field(default_factory=set)
    suspected: asyncio.Event = field(default_factory=asyncio.Event)
    """Set to have it probed at once."""

    def trusted(self, now: float) -> bool:
        """Whether it may be expected to answer."""
        return not self.health.ejected and (
            self.breaker.openings == 0 or self.breaker.allows(now, self.in_flight)
        )

    def succeeded(self) -> None:
        """It answered."""
        if self.breaker is not CLOSED:
            self.breaker = self.breaker.after_success()

    def failed(self, now: float) -> None:
        """It broke off, answered garbage, or failed inside."""
        before, self.breaker = self.breaker, self.breaker.after_failure(now)
        self.opened += self.breaker.openings > before.openings
        self.suspected.set()

    def saturated(self, now: float, retry_after_s: float | None) -> None:
        """It said that it has enough: no failure, but others come first for a moment."""
        self.busy_until = now + min(retry_after_s or BUSY_S, LONGEST_BUSY_S)

    def refused(self) -> None:
        """Nobody listens there."""
        self.suspected.set()
        self._judge(self.health.after_refusal())

    def probed(self, *, answered: bool) -> None:
        """A probe was answered, or not in time."""
        self._judge(self.health.after_probe(answered=answered))

    def _judge(self, health: Health) -> None:
        """Take over a new standing; what a dead worker has in hand moves on to others."""
        before, self.health = self.health, health
        if health.ejected == before.ejected:
            return
        if health.ejected:
            for call in list(self.calls):
                call.abort("ejected")
            self.origin.close()
        self.changed(self)


@dataclass(eq=False)
class _Waiter:
    future: asyncio.Future[Slot]
    image: bytes | None
    tried: Collection[Slot]
    until: float


class ModelPool:
    """The workers of one model, and the queue in front of them."""

    def __init__(self, name: str, settings: Settings) -> None:
        self._name, self._settings = name, settings
        self.slots: list[Slot] = []
        self.queue: deque[_Waiter] = deque()
        self.later: deque[_Waiter] = deque()
        """Those of low priority: only when nobody else waits."""
        self.reason: str | None = None
        """Why there is no worker, if one said so."""

    async def acquire(
        self, image: bytes | None, tried: Collection[Slot], *, low: bool = False
    ) -> Slot:
        """A worker for one attempt; give it back with `release`. Waits where all have enough to do.

        Raises:
            NoOtherWorkerError: all were tried.
            WorkerNotReadyError: there is none, or none that works.
            OverloadedError: too many wait, or this one waited too long.
        """
        if not self.slots:
            raise WorkerNotReadyError(self._name, self.reason)
        loop = asyncio.get_running_loop()
        now = loop.time()
        if not self.queue and (not low or not self.later):
            slot = self._pick(image, tried, now)
            if slot is not None:
                slot.in_flight += 1
                return slot
        if tried and all(slot in tried for slot in self.slots):
            raise NoOtherWorkerError
        if len(self.queue) + len(self.later) >= self._settings.queue_size:
            raise OverloadedError(f"Too many requests wait for {self._name!r}; try again soon.")
        wait = self._settings.queue_timeout_s
        if not any(slot.trusted(now) for slot in self.slots):
            wait = min(wait, RECOVERY_S)
        waiter = _Waiter(loop.create_future(), image, tried, now + wait)
        (self.later if low else self.queue).append(waiter)
        try:
            return await waiter.future
        except asyncio.CancelledError:
            given = waiter.future
            if given.done() and not given.cancelled() and given.exception() is None:
                self.release(given.result())  # it was given a worker as it was cut short
            raise

    def take_free(self, image: bytes | None, tried: Collection[Slot] = ()) -> Slot | None:
        """A worker that nobody waits for, to give back with `release`; None where there is none now."""
        if self.queue or self.later:
            return None
        slot = self._pick(image, tried, asyncio.get_running_loop().time())
        if slot is not None:
            slot.in_flight += 1
        return slot

    def all_ejected(self) -> bool:
        """Whether it has workers, and none of them answers."""
        return bool(self.slots) and all(slot.health.ejected for slot in self.slots)

    def release(self, slot: Slot) -> None:
        """An attempt is over."""
        slot.in_flight -= 1
        if self.queue or self.later:
            self.serve(asyncio.get_running_loop().time())

    def serve(self, now: float) -> None:
        """Give free workers to those who wait, in their order; low priority when nobody else does."""
        for queue in (self.queue, self.later):
            passed_over: list[_Waiter] = []
            while queue:
                waiter = queue.popleft()
                if waiter.future.done():
                    continue
                slot = self._pick(waiter.image, waiter.tried, now)
                if slot is not None:
                    slot.in_flight += 1
                    waiter.future.set_result(slot)
                    continue
                passed_over.append(waiter)
                if not waiter.tried:
                    break  # nothing is free for anyone
            queue.extendleft(reversed(passed_over))
            if queue:
                return

    def expire(self, now: float) -> None:
        """Tell those whose time is over."""
        for queue in (self.queue, self.later):
            for waiter in [w for w in queue if w.until < now or w.future.done()]:
                queue.remove(waiter)
                if not waiter.future.done():
                    waiter.future.set_exception(self._given_up(now))

    def _pick(self, image: bytes | None, tried: Collection[Slot], now: float) -> Slot | None:
        limit = self._settings.worker_max_in_flight
        free = [
            slot
            for slot in self.slots
            if slot.in_flight < limit
            and slot.busy_until <= now
            and slot.trusted(now)
            and slot not in tried
        ]
        return choose(free, image)

    def _given_up(self, now: float) -> OverloadedError | WorkerNotReadyError:
        if any(slot.trusted(now) for slot in self.slots):
            return OverloadedError(f"No worker of {self._name!r} was free in time; try again soon.")
        return WorkerNotReadyError(self._name, self.reason or "none answers")


class Pool:
    """All models' workers, kept in step with the registry."""

    def __init__(
        self,
        settings: Settings,
        membership: Callable[[Slot, bool], None],
        standing: Callable[[Slot], None],
    ) -> None:
        """Who hears of changes: `membership(slot, joined)`; `standing(slot)` of ejection and return."""
        self._settings, self._membership, self._standing = settings, membership, standing
        self._slots: dict[tuple[str, str], Slot] = {}
        self.models: dict[str, ModelPool] = {}

    def of(self, model: str) -> ModelPool:
        """The workers of a model."""
        found = self.models.get(model)
        if found is None:
            found = self.models[model] = ModelPool(model, self._settings)
        return found

    def sync(self, snapshot: Snapshot) -> None:
        """Take over the registry's workers; those that it still has keep their counts."""
        ready = {(w.id, w.url): w for w in snapshot.workers if w.status == "ready"}
        for key in [key for key in self._slots if key not in ready]:
            slot = self._slots.pop(key)
            slot.origin.close()
            self._membership(slot, False)
        for key, worker in ready.items():
            if key not in self._slots:
                slot = Slot(worker.id, worker.model, Origin(worker.url), self._standing)
                self._slots[key] = slot
                self._membership(slot, True)
        for name in [name for name in self.models if name not in snapshot.models]:
            if not self.models[name].queue and not self.models[name].later:
                del self.models[name]
        for name in snapshot.models:
            pool = self.of(name)
            pool.slots = [slot for slot in self._slots.values() if slot.model == name]
            pool.reason = _reason(snapshot.workers, name)
        self.pump()

    def pump(self) -> None:
        """Look at all queues, and close connections that were idle for too long."""
        now = asyncio.get_running_loop().time()
        for slot in self._slots.values():
            slot.origin.prune()
        for pool in self.models.values():
            if pool.queue or pool.later:
                pool.serve(now)
                pool.expire(now)

    def close(self) -> None:
        """Close all idle connections."""
        for slot in self._slots.values():
            slot.origin.close()


def _reason(workers: Collection[WorkerState], name: str) -> str | None:
    errors = [w.error for w in workers if w.model == name and w.error]
    return errors[0].rstrip(".") if errors else None
