"""Moves canaries and drains models: one controller at a time, whichever gateway holds the lease."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

import structlog
from redis import Redis

from service.ages import Ages
from service.errors import ServiceError
from service.registry import Registry, Snapshot
from service.rollout import changes
from service.rollout.counters import read_comparison
from service.rollout.lease import Lease
from service.rollout.records import Alias, By
from service.rollout.replicas import Replicas, is_drained
from service.rollout.store import Fence, LostLeaseError, RolloutStore
from service.routing.canary import Comparison, Decision, decide

log = structlog.get_logger()
LEASE_KEY = "infoprune:controller"
WHO = "infoprune"

Duty = Callable[[Snapshot], None]
"""Something else that one gateway at a time does, again and again, given the registry."""


class Controller:
    """Call `tick` again and again, in a thread; it does nothing while another holds the lease."""

    def __init__(
        self,
        redis: Redis,
        owner: str,
        *,
        drain_limit_s: float,
        lease_s: float = 10.0,
        duties: tuple[Duty, ...] = (),
        ages: Ages | None = None,
    ) -> None:
        self._redis = redis
        self._lease = Lease(redis, LEASE_KEY, owner, ttl_s=lease_s)
        self._store, self._registry, self._replicas = (
            RolloutStore(redis), Registry(redis), Replicas(redis),
        )  # fmt: skip
        self._drain_limit_s, self._duties = drain_limit_s, duties
        self._ages = ages or Ages()

    def tick(self) -> bool:
        """One look at everything; False while another gateway does it.

        Raises:
            RedisError: Redis is away.
        """
        fence = self._lease.hold()
        if fence is None:
            return False
        snapshot = self._registry.snapshot()
        try:
            for alias in snapshot.aliases.values():
                if alias.canary is not None:
                    self._move(alias, fence)
            self._finish_drains(snapshot, fence)
            for duty in self._duties:
                duty(snapshot)
        except LostLeaseError:
            log.warning("control passed on", reason="another gateway holds the lease")
        return True

    def release(self) -> None:
        """Let another gateway go on at once.

        Raises:
            RedisError: Redis is away.
        """
        self._lease.release()

    def _move(self, alias: Alias, fence: Fence) -> None:
        canary = alias.canary
        assert canary is not None
        now = time.time()
        held_s = self._ages.of((canary.id, canary.step), now - canary.step_started)
        counted = read_comparison(self._redis, canary.id)
        decision = decide(canary, counted, canary.step_started + held_s)
        if decision.action == "wait":
            return
        change, what = step(alias, decision, counted, now)
        by = By(who=WHO, why=decision.reason)
        try:
            self._store.change_alias(
                alias.name, change, by, what, version=alias.version, fence=fence
            )
        except ServiceError as error:  # changed by somebody meanwhile: the next look decides anew
            log.info("canary not moved", alias=alias.name, reason=str(error))
        else:
            log.info("canary moved", alias=alias.name, what=what, reason=decision.reason)

    def _finish_drains(self, snapshot: Snapshot, fence: Fence) -> None:
        retiring = [entry for entry in snapshot.models.values() if entry.state == "retiring"]
        if not retiring:
            return
        alive, now = self._replicas.alive(), time.time()
        for entry in retiring:
            since_s = self._ages.of((entry.name, entry.retired_at), now - (entry.retired_at or now))
            if is_drained(entry, alive, since_s, self._drain_limit_s):
                by = By(who=WHO, why="No request of it is under way.")
                self._store.drained(entry.name, by, fence=fence)
                log.info("model retired", model=entry.name)


def step(
    alias: Alias, decision: Decision, counted: Comparison, now: float
) -> tuple[Callable[[Alias], Alias], str]:
    """The change that a decision asks for, and its name in the history. Pure."""
    canary = alias.canary
    assert canary is not None
    if decision.action == "climb":
        percent = canary.rules.steps[canary.step + 1]
        return (
            partial(changes.climb, answers=counted.candidate.answers, now=now),
            f"canary climbs to {percent:g} %",
        )
    if decision.action == "promote":
        return partial(changes.finish_canary, reason=decision.reason, now=now), "canary promoted"

    def back(current: Alias) -> Alias:
        return changes.end_canary(current, "rolled_back", decision.reason, now=now)

    return back, f"canary rolled back from {canary.percent:g} %"
