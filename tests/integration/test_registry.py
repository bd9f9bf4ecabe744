"""A store that lost its data gets back what was known of it, once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from redis import Redis

from service.keys import KeyStore
from service.registry import Registry, Snapshot, WorkerState, was_lost
from service.rollout.store import RolloutStore
from tests.integration.test_rollout_store import ME
from tests.support.registry import alias, model


def known_of(redis: Redis) -> Snapshot:
    registry = Registry(redis)
    registry.put_model(model("a"))
    registry.put_worker(WorkerState(id="w", model="a", url="http://x", status="ready"))
    RolloutStore(redis).set_alias("prod", lambda _: alias("prod", a=1), ME)
    return registry.snapshot()


def test_a_store_without_its_data_is_told_from_one_that_was_emptied_by_command(
    redis: Redis,
) -> None:
    known = known_of(redis)
    assert known.epoch is not None
    Registry(redis).remove_model("a")
    assert not was_lost(known, Registry(redis).snapshot())
    redis.flushall()
    assert was_lost(known, Registry(redis).snapshot())
    assert not was_lost(Snapshot(), Registry(redis).snapshot()), "it never had any"


def test_what_was_known_is_restored_by_the_first_who_sees_it_and_nobody_else(redis: Redis) -> None:
    known = known_of(redis)
    _, key = KeyStore(redis).create("ci", frozenset({"inference"}))
    redis.flushall()
    with ThreadPoolExecutor(4) as pool:
        done = list(pool.map(lambda _: Registry(redis).restore(known, [key]), range(4)))
    assert sorted(done) == [False, False, False, True]
    found = Registry(redis).snapshot()
    assert found.model_copy(update={"revision": known.revision}) == known
    assert found.revision > known.revision, "drains wait for those who know of it"
    assert KeyStore(redis).list() == [key]


def test_a_registry_that_was_set_up_anew_is_left_as_it_is(redis: Redis) -> None:
    known = known_of(redis)
    redis.flushall()
    Registry(redis).put_model(model("b"))
    assert not Registry(redis).restore(known, [])
    assert list(Registry(redis).snapshot().models) == ["b"]
