"""Aliases and models' states in a real Redis: nothing lost, nothing left dangling."""

from __future__ import annotations

import threading
from itertools import pairwise
from pathlib import Path

import pytest
from redis import Redis

from service.errors import (
    AliasNotFoundError,
    AliasStateError,
    ModelInUseError,
    NameTakenError,
    UnknownTargetError,
)
from service.registry import Registry
from service.rollout import changes
from service.rollout.records import Alias, By, Setting, Target
from service.rollout.store import HISTORY_KEPT, Fence, LostLeaseError, RolloutStore
from service.store import EmbeddedValkey
from tests.support.registry import NO_FLOPS, model

ME = By(who="ada", why="a test")


@pytest.fixture
def store(redis: Redis) -> RolloutStore:
    for name in "abc":
        Registry(redis).put_model(model(name))
    return RolloutStore(redis)


def point(store: RolloutStore, name: str, target: str) -> Alias:
    setting = Setting(targets=(Target(model=target),))

    def make(known: Alias | None) -> Alias:
        if known is None:
            return changes.create(name, setting, now=1.0)
        return changes.set_targets(known, setting, now=1.0)

    return store.set_alias(name, make, ME)


def test_an_alias_is_in_the_next_snapshot_and_survives_the_store(tmp_path: Path) -> None:
    valkey = EmbeddedValkey(tmp_path / "valkey", log=tmp_path / "log")
    with Redis.from_url(valkey.start()) as client:
        Registry(client).put_model(model("a"))
        made = point(RolloutStore(client), "prod", "a")
    valkey.stop()
    with Redis.from_url(valkey.start()) as client:
        found = Registry(client).snapshot()
        assert found.aliases == {"prod": made}
        assert found.revision == 1
        assert [c.who for c in RolloutStore(client).history()] == ["ada"]
    valkey.stop()


def test_what_an_alias_points_to_is_neither_retired_nor_deleted(store: RolloutStore) -> None:
    point(store, "prod", "a")
    for refused in (store.retire, store.delete_model):
        with pytest.raises(ModelInUseError, match="alias 'prod' points to the model 'a'"):
            refused("a", ME)
    point(store, "prod", "b")
    assert store.retire("a", ME).state == "retiring"


def test_a_model_is_retired_drained_and_deleted_in_that_order(
    store: RolloutStore, redis: Redis
) -> None:
    with pytest.raises(ModelInUseError, match="retire it first"):
        store.delete_model("a", ME)
    retiring = store.retire("a", ME)
    assert retiring.retired_revision == Registry(redis).snapshot().revision
    assert store.retire("a", ME) == retiring, "twice changes nothing"
    with pytest.raises(UnknownTargetError):
        point(store, "prod", "a")
    store.drained("a", ME)
    assert "a" not in Registry(redis).snapshot().served_models
    store.delete_model("a", ME)
    assert "a" not in Registry(redis).snapshot().models
    assert [c.what for c in store.history(kind="model", name="a")] == [
        "delete", "drained", "retire",
    ]  # fmt: skip


def test_an_alias_and_a_model_never_share_a_name(store: RolloutStore) -> None:
    with pytest.raises(NameTakenError):
        point(store, "a", "b")


def test_a_refused_change_changes_nothing(store: RolloutStore, redis: Redis) -> None:
    point(store, "prod", "a")
    before = Registry(redis).snapshot()
    with pytest.raises(UnknownTargetError):
        point(store, "prod", "z")
    with pytest.raises(AliasNotFoundError, match="aliases: prod"):
        store.change_alias("none", lambda a: a, ME, "nothing")
    with pytest.raises(AliasStateError, match="was changed meanwhile"):
        store.change_alias("prod", lambda a: a, ME, "nothing", version=7)
    assert Registry(redis).snapshot() == before


def test_two_writers_lose_nothing(store: RolloutStore, redis: Redis) -> None:
    """Every one of 2 x 30 promotions is one version and one line of the history."""
    point(store, "prod", "a")
    rounds = 30

    def write(target: str) -> None:
        own = RolloutStore(redis)
        for _ in range(rounds):
            own.change_alias("prod", lambda a: changes.promote(a, target, now=2.0), ME, "promote")

    threads = [threading.Thread(target=write, args=(name,)) for name in "bc"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    lines = store.history(kind="alias", name="prod")
    assert Registry(redis).snapshot().aliases["prod"].version == 1 + 2 * rounds
    assert [line.version for line in lines] == list(range(1 + 2 * rounds, 0, -1))
    assert all(
        newer.before is not None and newer.before == older.after for newer, older in pairwise(lines)
    )


def test_retiring_and_pointing_at_the_same_time_never_both_succeed(
    store: RolloutStore, redis: Redis
) -> None:
    for _ in range(10):
        Registry(redis).put_model(model("a"))
        point(store, "prod", "b")
        barrier = threading.Barrier(2)
        refused: list[Exception] = []

        def attempt(action: str, barrier: threading.Barrier, refused: list[Exception]) -> None:
            barrier.wait()
            try:
                if action == "retire":
                    RolloutStore(redis).retire("a", ME)
                else:
                    point(RolloutStore(redis), "prod", "a")
            except (ModelInUseError, UnknownTargetError) as error:
                refused.append(error)

        threads = [
            threading.Thread(target=attempt, args=(action, barrier, refused))
            for action in ("retire", "point")
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(refused) == 1


def test_a_writer_that_lost_its_lease_changes_nothing(store: RolloutStore, redis: Redis) -> None:
    point(store, "prod", "a")
    redis.set("lease", "1")
    store.change_alias("prod", lambda a: a, ME, "mine", fence=Fence("lease", "1"))
    with pytest.raises(LostLeaseError):
        store.change_alias("prod", lambda a: a, ME, "theirs", fence=Fence("lease", "2"))
    assert [line.what for line in store.history()] == ["mine", "set"]


def test_the_history_is_bounded(store: RolloutStore, redis: Redis) -> None:
    point(store, "prod", "a")
    line = store.history()[0].model_dump_json()
    redis.lpush("infoprune:history", *[line] * HISTORY_KEPT)
    point(store, "prod", "b")
    assert len(store.history()) == HISTORY_KEPT


def test_a_compressed_models_name_is_never_given_to_other_weights(redis: Redis) -> None:
    registry = Registry(redis)
    small = model("small", variant="compressed", base="a", plan_sha256="1")
    registry.put_model(small)
    registry.put_model(small.model_copy(update={"evaluation": "e1"}))
    other = NO_FLOPS.model_copy(update={"vision": 1.0})
    for changed in ({"plan_sha256": "2"}, {"path": "/else"}, {"flops": other}):
        with pytest.raises(ModelInUseError, match="models are immutable"):
            registry.put_model(small.model_copy(update=changed))
    with pytest.raises(ModelInUseError):
        registry.update_model("small", lambda e: e.model_copy(update={"params": 2}))
    assert registry.model("small") == small.model_copy(update={"evaluation": "e1"})
