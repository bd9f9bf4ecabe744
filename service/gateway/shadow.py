"""Copies requests to the other model of a pair, off the client's path, and counts how both did.

A copy goes through the pool as every request does, but after all others: only to a worker that is free
and that nobody waits for; it never queues.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
from starlette.types import Message

from service.gateway.call import Call
from service.gateway.comparison_metrics import ComparisonMetrics
from service.gateway.exchange import Answered
from service.gateway.headers import seconds
from service.gateway.http1 import BrokenError
from service.gateway.origin import ConnectError, open_exchange
from service.gateway.pool import Pool, Slot
from service.registry import ModelEntry, Snapshot
from service.rollout.counters import PairCounters
from service.routing.agreement import compare
from service.routing.canary import Side

MAX_ATTEMPTS = 3
MAX_ANSWER_BYTES = 64 * 1024 * 1024
# Statuses that say nothing about the model: too many requests, the client left, no room. All others
# from 400 on are errors; `service/failures.py` says why a comparison is stricter than the error rates.
_NEITHER = frozenset({429, 499, 503})
_SATURATED = frozenset({429, 503})


@dataclass(frozen=True)
class Pair:
    """The two models that an exchange compares, as its alias has them."""

    id: str
    alias: str
    candidate: str
    side: Side
    """Of the model that answered the client."""

    @property
    def other(self) -> Side:
        """Of the model that gets the copy."""
        return "candidate" if self.side == "reference" else "reference"


def pair_of(snapshot: Snapshot, alias_name: str | None, answered_by: str) -> Pair | None:
    """The pair that an answer belongs to; None where the alias compares nothing (any more). Pure."""
    alias = snapshot.aliases.get(alias_name) if alias_name is not None else None
    if alias is None:
        return None
    if alias.canary is not None:
        canary = alias.canary
        if answered_by not in {canary.candidate, canary.reference}:
            return None
        side: Side = "candidate" if answered_by == canary.candidate else "reference"
        return Pair(canary.id, alias.name, canary.candidate, side)
    if alias.shadow is not None and answered_by != alias.shadow.candidate:
        return Pair(alias.shadow.id, alias.name, alias.shadow.candidate, "reference")
    return None


def copy_of(body: bytes, model: str) -> tuple[bytes, bool]:
    """The same request to another model, without streaming, and whether it is greedy. Pure.

    Greedy is temperature 0 and one answer: then two runs of one model say the same.
    """
    content: dict[str, Any] = msgspec.json.decode(body)
    content.pop("stream", None)
    content.pop("stream_options", None)
    greedy = content.get("temperature") == 0 and content.get("n") in (None, 1)
    return msgspec.json.encode(content | {"model": model}), greedy


def text_of(content: bytes) -> str | None:
    """What a completion says; None where it says nothing in words, such as a tool call. Pure."""
    try:
        choice = msgspec.json.decode(content)["choices"][0]
        message: Mapping[str, Any] = choice.get("message") or choice
        text = message.get("content", message.get("text"))
    except (msgspec.DecodeError, LookupError, TypeError, AttributeError):
        return None
    return text if isinstance(text, str) else None


class Comparer:
    """An observer. At most `limit` copies are under way; more are dropped, and counted."""

    def __init__(
        self,
        snapshot: Callable[[], Snapshot],
        counters: PairCounters,
        metrics: ComparisonMetrics,
        pool: Pool,
        *,
        limit: int,
        limit_s: float,
    ) -> None:
        """`limit` is of copies at one time, `limit_s` of each one's duration."""
        self._snapshot, self._counters, self._metrics = snapshot, counters, metrics
        self._pool, self._limit, self._limit_s = pool, limit, limit_s
        self._tasks: set[asyncio.Task[None]] = set()
        self.in_flight: Counter[str] = Counter()
        """Copies under way, by model."""

    def __call__(self, answered: Answered) -> None:
        """Count an exchange, and copy its request where the choice says so."""
        choice = answered.choice
        pair = pair_of(self._snapshot(), choice.alias, choice.entry.name)
        if pair is None or answered.status in _NEITHER:
            return
        failed = answered.status >= 400
        copied = choice.shadow is not None and not failed
        if copied and len(self._tasks) >= self._limit:
            copied = False
            self._counters.add(pair.id, dropped=1)
            self._metrics.copies.labels(pair.alias, pair.candidate, "dropped").inc()
        self._counters.served(
            pair.id, pair.side, failed=failed, latency_s=answered.latency_s, copied=copied
        )
        if copied and choice.shadow is not None:
            task = asyncio.create_task(self._copy(pair, choice.shadow, answered))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def finish(self) -> None:
        """Wait for the copies that are under way."""
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def close(self) -> None:
        """Give up the copies that are under way."""
        for task in self._tasks:
            task.cancel()
        await self.finish()

    async def _copy(self, pair: Pair, model: ModelEntry, answered: Answered) -> None:
        # A body with pictures takes milliseconds to parse: not on the event loop.
        body, greedy = await asyncio.to_thread(copy_of, answered.body, model.name)
        outcome, text, latency_s = await self._ask(model.name, answered, body)
        self._metrics.copies.labels(pair.alias, pair.candidate, outcome).inc()
        if outcome == "full":
            self._counters.add(pair.id, dropped=1)
            return
        failed = outcome == "failed"
        self._counters.mirrored(pair.id, pair.other, failed=failed, latency_s=latency_s)
        if text is None or answered.text is None:
            return
        if not greedy:
            self._counters.add(pair.id, sampled=1)
            return
        found = compare(answered.text, text)
        self._counters.add(
            pair.id, pairs=1, agreement=found.judged, exact=found.exact, vqa=found.vqa,
            token=found.token,
        )  # fmt: skip
        self._metrics.count_pair(pair.alias, pair.candidate, found)

    async def _ask(
        self, model: str, answered: Answered, body: bytes
    ) -> tuple[str, str | None, float]:
        """Outcome, text and seconds of one copy; another worker is asked where one fails."""
        started = time.perf_counter()
        pool, tried = self._pool.of(model), list[Slot]()
        self.in_flight[model] += 1
        try:
            while len(tried) < MAX_ATTEMPTS and (slot := pool.take_free(answered.image, tried)):
                tried.append(slot)
                try:
                    found = await self._attempt(slot, answered, body)
                finally:
                    pool.release(slot)
                if found is not None:
                    return (*found, time.perf_counter() - started)
        finally:
            self.in_flight[model] -= 1
        outcome = "failed" if tried or pool.all_ejected() else "full"
        return outcome, None, time.perf_counter() - started

    async def _attempt(
        self, slot: Slot, answered: Answered, body: bytes
    ) -> tuple[str, str | None] | None:
        """Outcome and text; None where the worker failed, so that another may do better."""
        now = asyncio.get_running_loop().time()
        call = Call(_to_nobody, now, self._limit_s)
        slot.calls.add(call)  # which ends it if the worker is ejected meanwhile
        connection = None
        try:
            async with asyncio.timeout(self._limit_s):
                connection = await open_exchange(
                    slot.origin, "POST", answered.path, [body], answered.headers
                )
                content = await connection.read(MAX_ANSWER_BYTES)
        except ConnectError:
            slot.refused()
            return None
        except BrokenError:
            slot.failed(asyncio.get_running_loop().time())
            return None
        except TimeoutError:
            return "failed", None
        except asyncio.CancelledError:
            if call.resume() is None:
                raise  # the gateway stops
            return None
        finally:
            slot.calls.discard(call)
            call.close()
            if connection is not None:
                connection.release()
        if connection.status in _SATURATED:
            slot.saturated(now, seconds(connection.header(b"retry-after")))
            return "full", None
        if connection.status != 200:
            return "failed", None
        slot.succeeded()
        return "answered", text_of(content)


async def _to_nobody(message: Message) -> None:
    """A copy's answer goes to no client."""
