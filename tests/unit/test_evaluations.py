"""Which evaluations are due, and that their questions let clients go first."""

from __future__ import annotations

import asyncio

from redis.exceptions import ConnectionError as RedisConnectionError

from service.evaluations.automatic import due
from service.evaluations.runner import Turns
from service.registry import Snapshot
from tests.support.registry import model, snapshot

RECIPE = {"flops": 0.5, "evaluation": {"datasets": ["easy-vqa", "own.jsonl"]}}


def known(*, ready: str = "ab", **changes: object) -> Snapshot:
    """`b` was compressed from `a` by a job."""
    small = {"variant": "compressed", "base": "a", "job": "j", "recipe": RECIPE, **changes}
    found = snapshot("a", "b", ready=ready)
    return found.model_copy(update={"models": {"a": model("a"), "b": model("b", **small)}})


def test_a_finished_compression_is_evaluated_beside_its_original() -> None:
    (record,) = due(known(), 50)
    assert (record.id, record.models) == ("auto-b", ("a", "b"))
    assert (record.datasets, record.samples) == (("easy-vqa",), 50), "no files by HTTP"


def test_nothing_is_due_before_both_can_answer_or_after_it_was_done() -> None:
    assert list(due(known(ready="a"), 50)) == []
    assert list(due(known(ready="b"), 50)) == []
    assert list(due(known(evaluation="e1"), 50)) == []
    assert list(due(known(job=None), 50)) == []
    assert list(due(known(recipe={"flops": 0.5}), 50)) == []


async def test_a_question_waits_while_clients_are_answered() -> None:
    clients = 5
    turns = Turns(lambda: clients, 4, every_s=0.01)
    waiting = asyncio.create_task(turns())
    await asyncio.sleep(0.1)
    assert not waiting.done()
    clients = 3
    await asyncio.wait_for(waiting, 2)


async def test_a_question_waits_while_nobody_knows_how_many_clients_there_are() -> None:
    away = True

    def clients() -> int:
        if away:
            raise RedisConnectionError
        return 0

    waiting = asyncio.create_task(Turns(clients, 4, every_s=0.01)())
    await asyncio.sleep(0.1)
    assert not waiting.done()
    away = False
    await asyncio.wait_for(waiting, 2)
