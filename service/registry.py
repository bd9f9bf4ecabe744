"""What the service knows: models and their workers, as JSON in two Redis hashes.

One `HGETALL` each is a whole snapshot, so the gateway can keep the last one while Redis is away.
"""

from __future__ import annotations

import time
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field
from redis import Redis

MODELS_KEY = "infoprune:models"
WORKERS_KEY = "infoprune:workers"

Variant = Literal["original", "compressed"]
WorkerStatus = Literal["starting", "ready", "backoff", "stopped"]


class Flops(BaseModel):
    """FLOPs of one request: 1 MAC = 2 FLOPs."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    vision: float
    projector: float
    prefill: float
    decode_token: float
    visual_tokens: int
    text_tokens: int


class Interval(BaseModel):
    """A measured share with its 95 % interval over n questions."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    value: float
    low: float
    high: float
    n: int


class ModelEntry(BaseModel):
    """A model that is or shall be served."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    path: str
    variant: Variant
    base: str | None = None
    """The original of a compressed model."""
    params: int
    flops: Flops
    accuracy: dict[str, Interval] = Field(default_factory=dict)
    job: str | None = None
    created: float = Field(default_factory=time.time)


class WorkerState(BaseModel):
    """One vLLM process and whether it can answer."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    model: str
    url: str
    status: WorkerStatus
    managed: bool = True
    """Whether the worker manager started it; False for one elsewhere, which registered itself."""
    pid: int | None = None
    restarts: int = 0
    error: str | None = None
    updated: float = Field(default_factory=time.time)


class Snapshot(BaseModel):
    """Everything the gateway routes by, read at one moment."""

    model_config = ConfigDict(frozen=True)

    models: dict[str, ModelEntry] = Field(default_factory=dict)
    workers: tuple[WorkerState, ...] = ()


class Registry:
    """Reads and writes the two hashes. Synchronous: call it in a thread from async code."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    def snapshot(self) -> Snapshot:
        """All models and workers."""
        pipe = self._redis.pipeline(transaction=True)
        pipe.hgetall(MODELS_KEY)
        pipe.hgetall(WORKERS_KEY)
        models, workers = pipe.execute()
        entries = [ModelEntry.model_validate_json(value) for value in models.values()]
        states = [WorkerState.model_validate_json(value) for value in workers.values()]
        return Snapshot(
            models={entry.name: entry for entry in sorted(entries, key=lambda e: e.created)},
            workers=tuple(sorted(states, key=lambda s: s.id)),
        )

    def model(self, name: str) -> ModelEntry | None:
        """One model by name."""
        value = self._redis.hget(MODELS_KEY, name)
        return None if value is None else ModelEntry.model_validate_json(value)

    def put_model(self, entry: ModelEntry) -> None:
        """Register or replace a model."""
        self._redis.hset(MODELS_KEY, entry.name, entry.model_dump_json())

    def remove_model(self, name: str) -> None:
        """Forget a model; its worker is stopped by the worker manager."""
        self._redis.hdel(MODELS_KEY, name)

    def put_worker(self, state: WorkerState) -> None:
        """Record a worker's state."""
        self._redis.hset(WORKERS_KEY, state.id, state.model_dump_json())

    def remove_worker(self, worker_id: str) -> None:
        """Forget a worker."""
        self._redis.hdel(WORKERS_KEY, worker_id)
