"""Canaries that climb, fall and are promoted by themselves, and who may move them."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from redis import Redis

from service.ages import Ages
from service.registry import ModelEntry, Registry
from service.rollout import changes
from service.rollout.controller import LEASE_KEY, Controller
from service.rollout.counters import PairCounters
from service.rollout.lease import Lease
from service.rollout.records import Alias, CanaryRules
from service.rollout.replicas import STALE_S, Replica, Replicas, is_drained
from service.rollout.store import RolloutStore
from service.store import EmbeddedValkey
from tests.integration.test_rollout_store import ME
from tests.support.registry import alias, model

RULES = CanaryRules(hold_s=0, min_samples=50, mirror=1.0)


class Clock:
    """A monotonic clock that the test moves."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def begin(redis: Redis, rules: CanaryRules = RULES) -> Alias:
    for name in "ab":
        Registry(redis).put_model(model(name))
    made = changes.start_canary(alias("prod", a=1), "b", rules, now=time.time())
    return RolloutStore(redis).set_alias("prod", lambda _: made, ME)


def state(redis: Redis) -> Alias:
    return Registry(redis).snapshot().aliases["prod"]


def traffic(redis: Redis, pair: str, requests: int, *, agree: float = 1.0) -> None:
    """Both models answer `requests` requests of clients; of the candidate's, `agree` agree."""
    counters = PairCounters(f"g{time.monotonic_ns()}")
    for number in range(requests):
        for side in ("reference", "candidate"):
            counters.served(pair, side, failed=False, latency_s=0.1, copied=False)
        agreed = float(number % 100 < 100 * agree)
        counters.add(pair, pairs=1, agreement=agreed, vqa=agreed)
    counters.close_batch()
    counters.send(redis)


def test_a_canary_that_holds_climbs_step_by_step_to_its_promotion(redis: Redis) -> None:
    started = begin(redis)
    assert started.canary is not None
    controller = Controller(redis, "g1", drain_limit_s=60)
    seen = []
    for _ in range(5):
        current = state(redis).canary
        assert current is not None
        seen.append(current.percent)
        traffic(redis, started.canary.id, 800)
        assert controller.tick()
        controller.tick()  # without new answers nothing moves on
    assert seen == [1, 5, 25, 50, 100]
    ended = state(redis)
    assert [t.model for t in ended.targets] == ["b"]
    assert ended.last_canary is not None
    assert ended.last_canary.outcome == "promoted"
    assert "no measurable difference" in ended.last_canary.reason
    assert [c.what for c in RolloutStore(redis).history()][:2] == [
        "canary promoted", "canary climbs to 100 %",
    ]  # fmt: skip


def test_a_canary_that_disagrees_is_rolled_back_with_the_reason(redis: Redis) -> None:
    started = begin(redis)
    assert started.canary is not None
    traffic(redis, started.canary.id, 400, agree=0.7)
    Controller(redis, "g1", drain_limit_s=60).tick()
    ended = state(redis)
    assert ended.canary is None
    assert [t.model for t in ended.targets] == ["a"]
    assert ended.last_canary is not None
    assert ended.last_canary.outcome == "rolled_back"
    assert ended.last_canary.reason.startswith("Agreement 0.700 [")
    assert RolloutStore(redis).history()[0].why == ended.last_canary.reason


def test_one_controller_acts_and_another_goes_on_when_it_ends(redis: Redis) -> None:
    first = Controller(redis, "g1", drain_limit_s=60)
    second = Controller(redis, "g2", drain_limit_s=60)
    assert [first.tick(), second.tick(), first.tick()] == [True, False, True]
    first.release()
    assert [second.tick(), first.tick()] == [True, False]


def test_a_lease_ends_with_its_holder_and_its_next_token_is_higher(redis: Redis) -> None:
    sleeper = Lease(redis, "lease", "g1", ttl_s=0.1)
    old = sleeper.hold()
    assert old is not None
    time.sleep(0.2)
    new = Lease(redis, "lease", "g2").hold()
    assert new is not None
    assert int(new.token.split(":")[0]) > int(old.token.split(":")[0])
    assert sleeper.hold() is None


def test_a_controller_that_slept_changes_nothing(
    redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It read the counters, slept, and its lease went to another before it wrote."""
    started = begin(redis)
    assert started.canary is not None
    traffic(redis, started.canary.id, 800)
    controller = Controller(redis, "g1", drain_limit_s=60)
    snapshot = Registry.snapshot

    def slow(registry: Registry) -> object:
        redis.set(LEASE_KEY, "99:g2")
        return snapshot(registry)

    monkeypatch.setattr(Registry, "snapshot", slow)
    controller.tick()
    monkeypatch.undo()
    assert state(redis) == started


def test_a_canary_goes_on_after_redis_was_killed(tmp_path: Path) -> None:
    store = EmbeddedValkey(tmp_path / "valkey", log=tmp_path / "log")
    with Redis.from_url(store.start()) as client:
        started = begin(client)
        assert started.canary is not None
        traffic(client, started.canary.id, 800)
    store.kill()
    with Redis.from_url(store.start()) as client:
        assert state(client) == started
        Controller(client, "g1", drain_limit_s=60).tick()
        climbed = state(client).canary
        assert climbed is not None
        assert climbed.percent == 5
    store.stop()


def retiring(redis: Redis) -> ModelEntry:
    Registry(redis).put_model(model("a"))
    return RolloutStore(redis).retire("a", ME)


def test_a_model_is_retired_once_no_gateway_asks_it(redis: Redis) -> None:
    entry = retiring(redis)
    clock = Clock()
    replicas, now = Replicas(redis, Ages(clock)), time.time()
    new, old = entry.retired_revision, entry.retired_revision - 1

    def drained(*found: Replica) -> bool:
        for replica in found:
            replicas.report(replica)
        return is_drained(entry, replicas.alive(), 5.0, 60)

    busy = Replica(id="g1", in_flight={"a": 1}, revision=new, reported=now)
    idle = busy.model_copy(update={"in_flight": {"b": 3}})
    assert not drained(busy)
    assert not drained(idle, Replica(id="g2", revision=old, reported=now))
    assert drained(Replica(id="g2", revision=new, reported=now))
    silent = Replica(id="g3", in_flight={"a": 1}, revision=old, reported=now)
    assert not drained(silent)
    clock.now += STALE_S + 1
    again = [Replica(id=name, revision=new, reported=now + 11) for name in ("g1", "g2")]
    assert drained(*again), "the third is gone"
    assert [replica.id for replica in replicas.alive()] == ["g1", "g2"]


def test_a_model_that_never_drains_is_retired_after_the_limit(redis: Redis) -> None:
    entry = retiring(redis)
    busy = Replica(id="g1", in_flight={"a": 1}, revision=9, reported=time.time())
    assert not is_drained(entry, [busy], 59, 60)
    assert is_drained(entry, [busy], 61, 60)
    assert not is_drained(entry, [], 1, 60), "a moment to settle"


@pytest.mark.parametrize("jump_s", [-3600.0, 3600.0])
def test_a_clock_that_is_set_neither_ends_a_drain_nor_holds_it_up(
    redis: Redis, monkeypatch: pytest.MonkeyPatch, jump_s: float
) -> None:
    entry = retiring(redis)
    clock = Clock()
    controller = Controller(redis, "g1", drain_limit_s=60, ages=Ages(clock))
    busy = Replica(id="g2", in_flight={"a": 1}, revision=entry.retired_revision, reported=1.0)
    Replicas(redis).report(busy)
    controller.tick()
    wall = time.time() + jump_s
    monkeypatch.setattr(time, "time", lambda: wall)
    controller.tick()
    assert Registry(redis).snapshot().models["a"].state == "retiring", "a request is under way"
    Replicas(redis).report(busy.model_copy(update={"in_flight": {}, "reported": 2.0}))
    clock.now += 5.0
    controller.tick()
    assert Registry(redis).snapshot().models["a"].state == "retired"


@pytest.mark.parametrize("jump_s", [-3600.0, 3600.0])
def test_a_clock_that_is_set_changes_no_canarys_time_at_a_step(
    redis: Redis, monkeypatch: pytest.MonkeyPatch, jump_s: float
) -> None:
    started = begin(redis, CanaryRules(hold_s=60, min_samples=50, mirror=1.0))
    assert started.canary is not None
    traffic(redis, started.canary.id, 800)
    clock = Clock()
    controller = Controller(redis, "g1", drain_limit_s=60, ages=Ages(clock))
    controller.tick()
    wall = time.time() + jump_s
    monkeypatch.setattr(time, "time", lambda: wall)
    for waited, percent in ((50.0, 1), (20.0, 5)):
        clock.now += waited
        controller.tick()
        current = state(redis).canary
        assert current is not None
        assert current.percent == percent


def test_the_controller_retires_what_has_drained(redis: Redis) -> None:
    retiring(redis)
    controller = Controller(redis, "g1", drain_limit_s=0.1)
    controller.tick()
    time.sleep(0.2)
    controller.tick()
    assert Registry(redis).snapshot().models["a"].state == "retired"
