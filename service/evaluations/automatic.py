"""A compressed model is evaluated by itself, beside its original, once both can answer."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from redis import Redis

from compressor.evaluate.datasets import DATASETS
from service.evaluations.records import EvaluationRecord, EvaluationRecords
from service.registry import ModelEntry, Snapshot
from service.settings import Settings


def due(snapshot: Snapshot, samples: int) -> Iterator[EvaluationRecord]:
    """The evaluations that are due. Pure; each model's has always the same id, so it is made once."""
    for entry in snapshot.models.values():
        pair = {entry.name, entry.base}
        if entry.job is None or entry.evaluation is not None or not pair <= snapshot.ready_models:
            continue
        datasets = _datasets(entry)
        if datasets:
            yield EvaluationRecord(
                id=f"auto-{entry.name}",
                models=(str(entry.base), entry.name),
                datasets=datasets,
                samples=samples,
            )


def submit_due(redis: Redis, settings: Settings, snapshot: Snapshot) -> None:
    """Queue what is due.

    Raises:
        RedisError: Redis is away.
    """
    records = EvaluationRecords(redis, ttl_s=settings.job_ttl_s)
    for record in due(snapshot, settings.evaluation_samples):
        records.create(record)


def _datasets(entry: ModelEntry) -> tuple[str, ...]:
    """Those of the recipe that need no files."""
    evaluation: Any = (entry.recipe or {}).get("evaluation") or {}
    return tuple(name for name in evaluation.get("datasets", ()) if name in DATASETS)
