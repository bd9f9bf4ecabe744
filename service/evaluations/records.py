"""What is known of an evaluation, in Redis."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from redis import Redis

from service.errors import EvaluationNotFoundError

EVALUATIONS_KEY = "infoprune:evaluations"
Status = Literal["queued", "running", "finished", "failed", "cancelled"]
FINAL: tuple[Status, ...] = ("finished", "failed", "cancelled")


class EvaluationRecord(BaseModel):
    """One evaluation."""

    model_config = ConfigDict(frozen=True, extra="ignore", use_attribute_docstrings=True)

    id: str = Field(default_factory=lambda: uuid.uuid4().hex[:12])
    models: tuple[str, ...]
    """One, or two that are compared."""
    datasets: tuple[str, ...]
    samples: int
    """Questions of each dataset's test split."""
    seed: int = 0
    status: Status = "queued"
    answered: int = 0
    total: int | None = None
    error: str | None = None
    created: float = Field(default_factory=time.time)
    started: float | None = None
    ended: float | None = None
    report: dict[str, Any] | None = None
    """Accuracies with 95 % intervals; with two models also their paired differences."""


class EvaluationRecords:
    """Reads and writes them. Synchronous."""

    def __init__(self, redis: Redis, *, ttl_s: int) -> None:
        self._redis, self._ttl_s = redis, ttl_s

    def create(self, record: EvaluationRecord) -> EvaluationRecord:
        """Queue an evaluation; one that has this id already stays as it is, and is returned."""
        self._redis.hsetnx(EVALUATIONS_KEY, record.id, record.model_dump_json())
        return self.get(record.id)

    def get(self, evaluation_id: str) -> EvaluationRecord:
        """One evaluation.

        Raises:
            EvaluationNotFoundError: there is none of that id.
        """
        value = self._redis.hget(EVALUATIONS_KEY, evaluation_id)
        if value is None:
            raise EvaluationNotFoundError(evaluation_id)
        return EvaluationRecord.model_validate_json(value)

    def list(self) -> list[EvaluationRecord]:
        """All of them, newest first; those that were kept long enough are forgotten."""
        raw: Any = self._redis.hgetall(EVALUATIONS_KEY)
        found = [EvaluationRecord.model_validate_json(value) for value in raw.values()]
        oldest = time.time() - self._ttl_s
        gone = {r.id for r in found if r.ended is not None and r.ended < oldest}
        if gone:
            self._redis.hdel(EVALUATIONS_KEY, *gone)
        return sorted((r for r in found if r.id not in gone), key=lambda r: -r.created)

    def update(self, evaluation_id: str, **changes: Any) -> bool:
        """Change an evaluation that is not over; False if it is.

        Raises:
            EvaluationNotFoundError: there is none of that id.
        """

        def write(pipe: Any) -> bool:
            value = pipe.hget(EVALUATIONS_KEY, evaluation_id)
            if value is None:
                raise EvaluationNotFoundError(evaluation_id)
            record = EvaluationRecord.model_validate_json(value)
            pipe.multi()
            if record.status in FINAL:
                return False
            changed = record.model_copy(update=changes)
            pipe.hset(EVALUATIONS_KEY, evaluation_id, changed.model_dump_json())
            return True

        transaction: Callable[..., Any] = self._redis.transaction
        return bool(transaction(write, EVALUATIONS_KEY, value_from_callable=True))
