"""Copies of requests to a candidate: compared, bounded, off the client's path, added up in Redis."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from redis import Redis

from service.gateway.comparison_metrics import ComparisonMetrics
from service.gateway.exchange import Answered
from service.gateway.pool import Pool, Slot
from service.gateway.shadow import Comparer, copy_of, pair_of, text_of
from service.registry import Registry, Snapshot, WorkerState
from service.rollout.counters import PairCounters, read_comparison
from service.rollout.records import Shadow
from service.rollout.store import RolloutStore
from service.routing.aliases import Choice
from service.routing.breaker import OPENS_AFTER, Health
from service.settings import Settings
from service.workers.manager import free_port
from tests.integration.test_rollout_store import ME
from tests.support.registry import alias, canary, model, snapshot
from tests.support.scripted import scripted_engine

ASKED = {"model": "a", "temperature": 0, "stream": True, "stream_options": {"include_usage": True}}
SHADOW = Shadow(candidate="b", share=1.0, id="pair")


class Engine:
    """What the candidate was asked, and what it says."""

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []
        self.reply = (200, "yes")
        self.reached, self.open = asyncio.Event(), asyncio.Event()
        self.open.set()

    async def __call__(self, body: dict[str, Any]) -> tuple[int, str]:
        self.asked.append(body)
        self.reached.set()
        await self.open.wait()
        return self.reply


@pytest.fixture
async def engine() -> Engine:
    return Engine()


@pytest.fixture
async def known(redis: Redis, engine: Engine) -> AsyncIterator[Snapshot]:
    """A registry with an alias `prod` of model `a`, whose shadow is `b`."""
    registry = Registry(redis)
    async with scripted_engine(engine) as url:
        for name in "ab":
            registry.put_model(model(name))
            registry.put_worker(WorkerState(id=name, model=name, url=url, status="ready"))
        shadowed = alias("prod", a=1).model_copy(update={"shadow": SHADOW})
        RolloutStore(redis).set_alias("prod", lambda _: shadowed, ME)
        yield registry.snapshot()


def answered(known: Snapshot, text: str | None = "Yes.", **changes: Any) -> Answered:
    models = known.models
    fields: dict[str, Any] = {
        "choice": Choice(models["a"], "prod", models["b"]),
        "path": "/v1/chat/completions", "body": json.dumps(ASKED).encode(), "stream": True,
        "status": 200, "text": text, "first_token_s": 0.01, "latency_s": 0.1,
    }  # fmt: skip
    return Answered(**(fields | changes))


@pytest.fixture
async def pool(known: Snapshot) -> AsyncIterator[Pool]:
    """What the gateway has: one free worker of each model."""
    settings = Settings(worker_max_in_flight=2)
    found = Pool(settings, lambda slot, joined: None, lambda slot: None)
    found.sync(known)
    yield found
    found.close()
    await asyncio.sleep(0.01)  # what was closed leaves the loop


@pytest.fixture
async def comparer(known: Snapshot, pool: Pool) -> AsyncIterator[Comparer]:
    metrics = ComparisonMetrics(CollectorRegistry(), lambda: known)
    found = Comparer(lambda: known, PairCounters("g1"), metrics, pool, limit=2, limit_s=5.0)
    yield found
    await found.close()


async def counted(comparer: Comparer, redis: Redis) -> Any:
    await comparer.finish()
    comparer._counters.close_batch()
    comparer._counters.send(redis)
    return read_comparison(redis, "pair")


async def test_a_copy_is_the_request_with_another_model_and_without_streaming(
    known: Snapshot, comparer: Comparer, redis: Redis, engine: Engine
) -> None:
    comparer(answered(known))
    found = await counted(comparer, redis)

    assert engine.asked == [{"model": "b", "temperature": 0}]
    assert (found.pairs, found.agreement, found.exact, found.vqa) == (1, 1.0, 0.0, 1.0)
    assert (found.reference.served, found.candidate.mirrored, found.candidate.errors) == (1, 1, 0)
    assert sum(found.reference.copied.values()) == sum(found.candidate.copied.values()) == 1
    assert comparer.in_flight["b"] == 0


async def test_the_observer_returns_before_the_candidate_answers(
    known: Snapshot, comparer: Comparer, engine: Engine, redis: Redis
) -> None:
    engine.open.clear()
    started = time.perf_counter()
    comparer(answered(known))
    assert time.perf_counter() - started < 0.05
    await asyncio.wait_for(engine.reached.wait(), 5)
    assert comparer.in_flight["b"] == 1
    engine.open.set()
    assert (await counted(comparer, redis)).pairs == 1


async def test_copies_over_the_bound_are_dropped_and_counted(
    known: Snapshot, comparer: Comparer, engine: Engine, redis: Redis
) -> None:
    engine.open.clear()
    for _ in range(5):
        comparer(answered(known))
    engine.open.set()
    found = await counted(comparer, redis)
    assert (len(engine.asked), found.pairs, found.dropped) == (2, 2, 3)
    assert found.reference.served == 5


@pytest.mark.parametrize(
    ("reply", "errors", "dropped"),
    [((500, "broken"), 1, 0), ((400, "too long"), 1, 0), ((503, "full"), 0, 1)],
)
async def test_a_candidates_failure_is_an_error_but_a_full_queue_is_not(
    known: Snapshot,
    comparer: Comparer,
    engine: Engine,
    redis: Redis,
    reply: tuple[int, str],
    errors: int,
    dropped: int,
) -> None:
    engine.reply = reply
    comparer(answered(known))
    found = await counted(comparer, redis)
    assert (found.candidate.errors, found.dropped, found.pairs) == (errors, dropped, 0)


async def test_a_request_that_samples_says_nothing_of_agreement(
    known: Snapshot, comparer: Comparer, redis: Redis
) -> None:
    for body in ({"temperature": 0.7}, {}, {"temperature": 0, "n": 2}):
        comparer(answered(known, body=json.dumps({"model": "a"} | body).encode()))
        await comparer.finish()
    found = await counted(comparer, redis)
    assert (found.pairs, found.sampled, found.candidate.mirrored) == (0, 3, 3)


async def test_a_failed_or_overloaded_exchange_is_not_copied(
    known: Snapshot, comparer: Comparer, redis: Redis, engine: Engine
) -> None:
    comparer(answered(known, status=500))
    comparer(answered(known, status=429))
    found = await counted(comparer, redis)
    assert (found.reference.served, found.reference.errors, engine.asked) == (1, 1, [])


def worker_of(pool: Pool, model: str) -> Slot:
    (slot,) = pool.of(model).slots
    return slot


async def test_a_copy_is_dropped_where_no_worker_is_free_and_never_queues(
    known: Snapshot, comparer: Comparer, pool: Pool, redis: Redis, engine: Engine
) -> None:
    held = [await pool.of("b").acquire(None, []) for _ in range(2)]
    comparer(answered(known))
    await comparer.finish()
    for slot in held:
        pool.of("b").release(slot)
    found = await counted(comparer, redis)
    assert (engine.asked, found.dropped, found.candidate.mirrored) == ([], 1, 0)
    assert worker_of(pool, "b").in_flight == 0


async def test_a_copy_takes_no_worker_that_a_client_waits_for(
    known: Snapshot, comparer: Comparer, pool: Pool, redis: Redis, engine: Engine
) -> None:
    models = pool.of("b")
    held = [await models.acquire(None, []) for _ in range(2)]
    client = asyncio.ensure_future(models.acquire(None, []))
    await asyncio.sleep(0)
    held[0].in_flight -= 1  # free, but not given to the client yet
    comparer(answered(known))
    assert (await counted(comparer, redis)).dropped == 1
    models.serve(asyncio.get_running_loop().time())
    for slot in (held[1], await client):
        models.release(slot)
    assert engine.asked == []


@pytest.mark.parametrize("distrust", ["ejected", "open"])
async def test_a_copy_goes_to_no_worker_that_is_not_trusted(
    known: Snapshot,
    comparer: Comparer,
    pool: Pool,
    redis: Redis,
    engine: Engine,
    distrust: str,
) -> None:
    slot = worker_of(pool, "b")
    if distrust == "ejected":
        slot.health = Health(ejected=True)
    else:
        for _ in range(OPENS_AFTER):
            slot.failed(asyncio.get_running_loop().time())
    comparer(answered(known))
    found = await counted(comparer, redis)
    # A model whose workers are all away fails; one whose breaker is open is spared for a while.
    failed = distrust == "ejected"
    assert (engine.asked, found.dropped, found.candidate.errors) == ([], not failed, failed)


async def test_a_copy_to_a_dead_worker_has_it_ejected(
    known: Snapshot, comparer: Comparer, pool: Pool, redis: Redis
) -> None:
    worker_of(pool, "b").origin.port = free_port()
    comparer(answered(known))
    found = await counted(comparer, redis)
    assert found.candidate.errors == 1
    assert worker_of(pool, "b").health.ejected


async def test_a_copy_whose_worker_is_ejected_meanwhile_ends(
    known: Snapshot, comparer: Comparer, pool: Pool, redis: Redis, engine: Engine
) -> None:
    engine.open.clear()
    comparer(answered(known))
    await asyncio.wait_for(engine.reached.wait(), 5)
    assert worker_of(pool, "b").in_flight == 1
    worker_of(pool, "b").refused()
    found = await counted(comparer, redis)
    engine.open.set()
    assert found.candidate.errors == 1
    assert (worker_of(pool, "b").in_flight, comparer.in_flight["b"]) == (0, 0)


async def test_gateways_add_up_and_a_batch_that_is_sent_twice_counts_once(redis: Redis) -> None:
    gateways: list[PairCounters] = [PairCounters(f"g{i}") for i in range(3)]
    for number, counters in enumerate(gateways):
        counters.add("pair", pairs=1, agreement=0.5)
        counters.served("pair", "candidate", failed=False, latency_s=0.1, copied=False)
        counters.close_batch()
        again = list(counters._sending)
        counters.send(redis)
        counters._sending[:] = again
        counters.send(redis)
        assert read_comparison(redis, "pair").pairs == number + 1
    found = read_comparison(redis, "pair")
    assert (found.agreement, found.candidate.served) == (1.5, 3)
    assert sum(found.candidate.latency.values()) == 3


def test_an_answer_belongs_to_its_aliass_pair() -> None:
    climbing = alias("prod", a=1).model_copy(update={"canary": canary(id="c1")})
    known = snapshot("a", "b", "c", aliases=(climbing,))
    found = [pair_of(known, "prod", name) for name in "abc"]
    assert [p and (p.id, p.side, p.other) for p in found] == [
        ("c1", "reference", "candidate"), ("c1", "candidate", "reference"), None,
    ]  # fmt: skip
    assert pair_of(known, None, "a") is None
    assert pair_of(snapshot("a", aliases=(alias("prod", a=1),)), "prod", "a") is None


def test_bodies_and_answers_are_read_for_what_matters() -> None:
    body, greedy = copy_of(b'{"model":"a","stream":true,"user":"u","temperature":0.0}', "b")
    assert json.loads(body) == {"model": "b", "user": "u", "temperature": 0.0}
    assert greedy
    assert text_of(b'{"choices": [{"text": "hi"}]}') == "hi"
    assert text_of(b'{"choices": [{"message": {"content": null, "tool_calls": []}}]}') is None
    assert text_of(b"[]") is None
