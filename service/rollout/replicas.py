"""The gateways that are alive: requests in flight, and the registry's revision that they go by."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pydantic import BaseModel, ConfigDict, Field
from redis import Redis

from service.ages import Ages
from service.registry import ModelEntry

REPLICAS_KEY = "infoprune:replicas"
STALE_S = 10.0
"""A gateway that did not report for so long is gone."""
SETTLE_S = 2.0


class Replica(BaseModel):
    """One gateway process."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    id: str
    in_flight: dict[str, int] = Field(default_factory=dict)
    """Requests under way, by model."""
    revision: int = 0
    reported: float


class Replicas:
    """Reads and writes them. Synchronous.

    Who is gone is judged by whether its report changes, not by what the clocks of two machines say.
    """

    def __init__(self, redis: Redis, ages: Ages | None = None) -> None:
        self._redis, self._ages = redis, ages or Ages()

    def report(self, replica: Replica) -> None:
        """Say that a gateway is alive."""
        self._redis.hset(REPLICAS_KEY, replica.id, replica.model_dump_json())

    def forget(self, replica_id: str) -> None:
        """A gateway ended."""
        self._redis.hdel(REPLICAS_KEY, replica_id)

    def alive(self) -> list[Replica]:
        """Those that reported lately; the others are forgotten."""
        raw: Any = self._redis.hgetall(REPLICAS_KEY)
        found = [Replica.model_validate_json(value) for value in raw.values()]
        reports = {replica.id: (replica.id, replica.reported) for replica in found}
        gone = [name for name, report in reports.items() if self._ages.of(report) > STALE_S]
        self._ages.keep(reports.values())
        if gone:
            self._redis.hdel(REPLICAS_KEY, *gone)
        return [replica for replica in found if replica.id not in gone]


def is_drained(
    entry: ModelEntry, replicas: Iterable[Replica], retiring_s: float, limit_s: float
) -> bool:
    """Whether nobody asks a model any more that retires since `retiring_s`. Pure.

    Every gateway must know that it retires and have none of its requests under way, and those that
    it let in just before get a moment to show; after `limit_s` it is drained whatever is under way.
    """
    if retiring_s < SETTLE_S or retiring_s > limit_s:
        return retiring_s > limit_s
    return all(
        replica.revision >= entry.retired_revision and not replica.in_flight.get(entry.name)
        for replica in replicas
    )
