"""What was counted of a pair of models, in Redis, so that all gateways add up.

A gateway counts in memory and sends what it has every moment. A batch has a number: one that was sent
twice, because the connection broke before the answer came, counts once.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from redis import Redis

from service.routing.canary import Comparison, Side, SideCounts, latency_bin

KEPT_S = 30 * 24 * 3600
_SUMS = ("agreement", "exact", "vqa", "token")

# KEYS[1] the pair; ARGV[1] the gateway, ARGV[2] the batch's number, ARGV[3] seconds to keep the
# counters, ARGV[4..] field, increment, ...
_ADD = """
local last = tonumber(redis.call('HGET', KEYS[1], 'batch:' .. ARGV[1]) or '0')
if tonumber(ARGV[2]) <= last then return 0 end
redis.call('HSET', KEYS[1], 'batch:' .. ARGV[1], ARGV[2])
for i = 4, #ARGV, 2 do redis.call('HINCRBYFLOAT', KEYS[1], ARGV[i], ARGV[i + 1]) end
redis.call('EXPIRE', KEYS[1], ARGV[3])
return 1
"""


def pair_key(pair: str) -> str:
    """The hash that holds a pair's counters."""
    return f"infoprune:comparison:{pair}"


@dataclass(frozen=True)
class _Batch:
    pair: str
    number: int
    counts: Counter[str]


@dataclass
class PairCounters:
    """One gateway's counts that Redis does not have yet, by pair. Count on one thread only."""

    gateway: str
    _open: dict[str, Counter[str]] = field(default_factory=dict)
    _sending: list[_Batch] = field(default_factory=list)
    _number: int = 0
    _turn: threading.Lock = field(default_factory=threading.Lock)

    def served(
        self, pair: str, side: Side, *, failed: bool, latency_s: float, copied: bool
    ) -> None:
        """Count an answer to a client; `copied` if another model gets the request too."""
        counts = self._open.setdefault(pair, Counter())
        counts[f"{side}:served"] += 1
        if failed:
            counts[f"{side}:errors"] += 1
            return
        counts[f"{side}:bin:{latency_bin(latency_s)}"] += 1
        if copied:
            counts[f"{side}:copied:{latency_bin(latency_s)}"] += 1

    def mirrored(self, pair: str, side: Side, *, failed: bool, latency_s: float) -> None:
        """Count the answer to a copy."""
        counts = self._open.setdefault(pair, Counter())
        counts[f"{side}:mirrored"] += 1
        counts[f"{side}:errors" if failed else f"{side}:copied:{latency_bin(latency_s)}"] += 1

    def add(self, pair: str, **amounts: float) -> None:
        """Add to the pair's own fields, such as `pairs=1, agreement=1.0`."""
        counts: Counter[str] = self._open.setdefault(pair, Counter())
        counts.update(amounts)  # of floats, which add as well

    def close_batch(self) -> None:
        """What was counted until now goes with the next `send`."""
        for pair, counts in self._open.items():
            self._number += 1
            self._sending.append(_Batch(pair, self._number, counts))
        self._open = {}

    def send(self, redis: Redis) -> None:
        """Add the closed batches to Redis. May run in a thread while counting goes on.

        Raises:
            RedisError: Redis is away; the batches wait for the next time.
        """
        with self._turn:
            while self._sending:
                batch = self._sending[0]
                flat: list[Any] = [part for pair in batch.counts.items() for part in pair]
                arguments = [self.gateway, batch.number, KEPT_S, *flat]
                redis.eval(_ADD, 1, pair_key(batch.pair), *arguments)
                self._sending.pop(0)


def read_comparison(redis: Redis, pair: str) -> Comparison:
    """Everything that all gateways counted of a pair."""
    raw: Any = redis.hgetall(pair_key(pair))
    return comparison_of({k.decode(): float(v) for k, v in raw.items() if b"batch:" not in k})


def comparison_of(fields: Mapping[str, float]) -> Comparison:
    """The hash's fields as a comparison. Pure."""
    return Comparison(
        reference=_side(fields, "reference"),
        candidate=_side(fields, "candidate"),
        pairs=int(fields.get("pairs", 0)),
        sampled=int(fields.get("sampled", 0)),
        dropped=int(fields.get("dropped", 0)),
        **{name: fields.get(name, 0.0) for name in _SUMS},
    )


def _side(fields: Mapping[str, float], side: Side) -> SideCounts:
    return SideCounts(
        served=int(fields.get(f"{side}:served", 0)),
        mirrored=int(fields.get(f"{side}:mirrored", 0)),
        errors=int(fields.get(f"{side}:errors", 0)),
        latency=_bins(fields, f"{side}:bin:"),
        copied=_bins(fields, f"{side}:copied:"),
    )


def _bins(fields: Mapping[str, float], prefix: str) -> dict[int, int]:
    return {int(k[len(prefix) :]): int(v) for k, v in fields.items() if k.startswith(prefix)}
