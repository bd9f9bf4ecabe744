"""Copies requests to the other model of a pair, off the client's path, and counts how both did."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import aiohttp
import msgspec

from service.errors import WorkerNotReadyError
from service.gateway.comparison_metrics import ComparisonMetrics
from service.gateway.exchange import Answered
from service.registry import ModelEntry, Snapshot
from service.rollout.counters import PairCounters
from service.routing.agreement import compare
from service.routing.canary import Side
from service.routing.policy import choose_worker

# Statuses that say nothing about the model: too many requests, the client left, no room.
_NEITHER = frozenset({429, 499, 503})


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
        session: aiohttp.ClientSession,
        *,
        limit: int,
    ) -> None:
        self._snapshot, self._counters, self._metrics = snapshot, counters, metrics
        self._session, self._limit = session, limit
        self._tasks: set[asyncio.Task[None]] = set()
        self._workers: Counter[str] = Counter()
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
        """Outcome, text and seconds of one copy."""
        started = time.perf_counter()
        try:
            worker = choose_worker(self._snapshot(), model, self._workers)
        except WorkerNotReadyError:
            return "full", None, 0.0
        headers = {"content-type": "application/json", **answered.headers}
        self._workers[worker.id] += 1
        self.in_flight[model] += 1
        try:
            async with self._session.post(
                worker.url + answered.path, data=body, headers=headers
            ) as response:
                content = await response.read()
        except (aiohttp.ClientError, TimeoutError, OSError):
            return "failed", None, time.perf_counter() - started
        finally:
            self._workers[worker.id] -= 1
            self.in_flight[model] -= 1
        elapsed = time.perf_counter() - started
        if response.status in _NEITHER:
            return "full", None, elapsed
        if response.status != 200:
            return "failed", None, elapsed
        return "answered", text_of(content), elapsed
