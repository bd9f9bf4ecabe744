"""The queue in front of a model's workers; no network."""

from __future__ import annotations

import asyncio
import random

import pytest

from service.errors import OverloadedError, WorkerNotReadyError
from service.gateway.origin import Origin
from service.gateway.pool import ModelPool, NoOtherWorkerError, Slot
from service.routing.breaker import Health
from service.settings import Settings


def slots(count: int) -> list[Slot]:
    return [
        Slot(f"w{i}", "tiny", Origin(f"http://127.0.0.1:{i + 1}"), lambda _: None)
        for i in range(count)
    ]


def pool_of(count: int, **settings: float) -> ModelPool:
    found = ModelPool("tiny", Settings.model_validate({"worker_max_in_flight": 1, **settings}))
    found.slots = slots(count)
    return found


async def waiting(pool: ModelPool, *, low: bool = False) -> asyncio.Task[Slot]:
    task = asyncio.ensure_future(pool.acquire(None, [], low=low))
    await asyncio.sleep(0)
    return task


async def test_who_waits_is_served_in_order_and_low_priority_last() -> None:
    pool = pool_of(1)
    slot = await pool.acquire(None, [])
    low = await waiting(pool, low=True)
    first, second = await waiting(pool), await waiting(pool)
    for task in (first, second, low):
        assert not task.done()
        pool.release(slot)
        await asyncio.sleep(0)
        assert task.result() is slot


async def test_who_leaves_the_queue_takes_no_worker_along() -> None:
    pool = pool_of(1)
    slot = await pool.acquire(None, [])
    leaver, stayer = await waiting(pool), await waiting(pool)
    pool.release(slot)
    leaver.cancel()  # at the very moment that it was given the worker
    with pytest.raises(asyncio.CancelledError):
        await leaver
    assert (await stayer) is slot
    pool.release(slot)
    assert slot.in_flight == 0


async def test_a_full_queue_refuses_and_a_long_wait_ends() -> None:
    pool = pool_of(1, queue_size=1, queue_timeout_s=5)
    await pool.acquire(None, [])
    waiter = await waiting(pool)
    with pytest.raises(OverloadedError, match="Too many"):
        await pool.acquire(None, [])
    pool.expire(asyncio.get_running_loop().time() + 6)
    with pytest.raises(OverloadedError, match="free in time"):
        await waiter


async def test_a_worker_that_was_tried_is_not_asked_again() -> None:
    pool = pool_of(2)
    first = await pool.acquire(None, [])
    pool.release(first)
    second = await pool.acquire(None, [first])
    assert second is not first
    with pytest.raises(NoOtherWorkerError):
        await pool.acquire(None, pool.slots)


async def test_ejected_workers_are_waited_for_a_moment() -> None:
    pool = pool_of(1)
    pool.slots[0].health = Health(ejected=True)
    waiter = await waiting(pool)
    pool.slots[0].health = Health()
    pool.serve(asyncio.get_running_loop().time())
    assert (await waiter) is pool.slots[0]
    pool.release(pool.slots[0])
    pool.slots[0].health = Health(ejected=True)
    waiter = await waiting(pool)
    pool.expire(asyncio.get_running_loop().time() + 6)
    with pytest.raises(WorkerNotReadyError, match="none answers"):
        await waiter


async def test_a_worker_that_said_enough_is_left_alone_for_a_moment() -> None:
    pool = pool_of(1)
    (slot,) = pool.slots
    now = asyncio.get_running_loop().time()
    slot.saturated(now, 60.0)
    waiter = await waiting(pool)
    pool.serve(now + 1.9)
    assert not waiter.done()
    pool.serve(now + 2.1)
    assert (await waiter) is slot
    assert slot.breaker.failures == 0


async def test_simulation_ten_thousand_requests_leave_no_count_behind() -> None:
    """Workers fail, fill up, die and come back at random: nobody is forgotten, no limit passed."""
    draw = random.Random(3)
    pool = pool_of(4, worker_max_in_flight=8, queue_size=200)
    loop = asyncio.get_running_loop()
    served = refused = 0

    async def request() -> None:
        nonlocal served, refused
        tried: list[Slot] = []
        image = draw.choice([None, draw.randbytes(4)])
        try:
            for _ in range(4):
                slot = await pool.acquire(image, tried, low=draw.random() < 0.2)
                assert slot.in_flight <= 8
                await asyncio.sleep(0)
                if good := draw.random() < 0.8:
                    slot.succeeded()
                elif draw.random() < 0.5:
                    slot.failed(loop.time())
                else:
                    slot.saturated(loop.time(), 0.001)
                pool.release(slot)
                if good:
                    served += 1
                    return
                tried.append(slot)
            refused += 1
        except (NoOtherWorkerError, OverloadedError, WorkerNotReadyError):
            refused += 1

    async def disturb() -> None:
        while True:
            slot = draw.choice(pool.slots)
            slot.health = Health(ejected=not slot.health.ejected)
            # Time that passes for the breakers without passing here.
            pool.serve(loop.time() + 60)
            await asyncio.sleep(0)

    disturber = asyncio.ensure_future(disturb())
    for _ in range(100):
        await asyncio.gather(*(request() for _ in range(100)))
    disturber.cancel()

    assert served + refused == 10_000
    assert served > 5_000
    assert not pool.queue
    assert not pool.later
    assert all(slot.in_flight == 0 for slot in pool.slots)
