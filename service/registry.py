"""What the service knows: models, their workers and the aliases, as JSON in three Redis hashes.

One `HGETALL` each is a whole snapshot, so the gateway can keep the last one while Redis is away. A
registry has an epoch, a name of its own: a store without one is no registry that was emptied by
command, but a store that lost its data (`was_lost`). Compressed models are immutable: a name is
never given to other weights.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterable, Mapping
from functools import cached_property
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from redis import Redis

from service.errors import ModelInUseError, ModelNotFoundError
from service.keys import KEYS_KEY, ApiKey
from service.rollout.records import Alias

MODELS_KEY = "infoprune:models"
WORKERS_KEY = "infoprune:workers"
ALIASES_KEY = "infoprune:aliases"
REVISION_KEY = "infoprune:revision"
"""Counts changes of aliases and models' states: which snapshot does a gateway have?"""
EPOCH_KEY = "infoprune:epoch"
"""Names this registry; set with its first model."""

Variant = Literal["original", "compressed"]
WorkerStatus = Literal["starting", "ready", "backoff", "stopped"]
ModelState = Literal["active", "retiring", "retired"]
"""A retiring model gets no new requests; a retired one has no worker."""

# What makes a compressed model that model; measurements and state may change.
_IDENTITY = ("path", "variant", "base", "params", "flops", "job", "plan_sha256")


class Flops(BaseModel):
    """FLOPs of one request: 1 MAC = 2 FLOPs."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    vision: float
    projector: float
    prefill: float
    decode_token: float
    visual_tokens: int
    text_tokens: int


class Interval(BaseModel):
    """A measured share with its 95 % interval over n questions."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    value: float
    low: float
    high: float
    n: int


class ModelEntry(BaseModel):
    """A model that is or shall be served, and where it comes from."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    name: str
    path: str
    variant: Variant
    base: str | None = None
    """The original of a compressed model."""
    params: int
    flops: Flops
    accuracy: dict[str, Interval] = Field(default_factory=dict)
    job: str | None = None
    recipe: dict[str, Any] | None = None
    """What it was compressed by."""
    plan_sha256: str | None = None
    measured: dict[str, Any] | None = None
    """The job's report: FLOPs, parameters and accuracy of both models."""
    report: str | None = None
    """Path of the report's file."""
    location: str | None = None
    """Where the checkpoint can be fetched from, for machines that have no such `path`."""
    evaluation: str | None = None
    """The latest online evaluation."""
    state: ModelState = "active"
    retired_at: float | None = None
    retired_revision: int = 0
    """The first revision of the registry in which it got no new requests."""
    created: float = Field(default_factory=time.time)


class Usage(BaseModel):
    """What a worker's processes use on their machine; a newer manager may know more of it."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    cpu_s: float
    """Since they started."""
    resident_bytes: int
    gpu_bytes: int | None = None
    gpu_busy: float | None = None
    """Of the GPUs that they are on, 0 to 1."""
    kv_cache_used: float | None = None
    """Of the engine's KV cache, 0 to 1, as it says itself."""


class WorkerState(BaseModel):
    """One vLLM process and whether it can answer."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    id: str
    model: str
    url: str
    status: WorkerStatus
    managed: bool = True
    """Whether a worker manager started it; False for one elsewhere, which registered itself."""
    keeper: str = ""
    """The name by which its manager's machine is reached; empty where there is one machine."""
    pid: int | None = None
    restarts: int = 0
    error: str | None = None
    usage: Usage | None = None
    """As the manager last measured it."""
    updated: float = Field(default_factory=time.time)


class Snapshot(BaseModel):
    """Everything the gateway routes by, read at one moment."""

    model_config = ConfigDict(frozen=True)

    models: dict[str, ModelEntry] = Field(default_factory=dict)
    workers: tuple[WorkerState, ...] = ()
    aliases: dict[str, Alias] = Field(default_factory=dict)
    revision: int = 0
    epoch: str | None = None
    """The registry's own name; None where there is no registry (yet)."""

    def model_copy(
        self, *, update: Mapping[str, Any] | None = None, deep: bool = False
    ) -> Snapshot:
        """Pydantic's, which would copy what was derived as well."""
        copied = super().model_copy(update=update, deep=deep)
        for name in ("ready_models", "served_models"):
            copied.__dict__.pop(name, None)
        return copied

    @cached_property
    def ready_models(self) -> frozenset[str]:
        """Active models with a worker that can answer."""
        ready = {worker.model for worker in self.workers if worker.status == "ready"}
        return frozenset(n for n in ready if n in self.models and self.models[n].state == "active")

    @cached_property
    def served_models(self) -> dict[str, ModelEntry]:
        """Models that shall have a worker: those that are not retired."""
        return {name: entry for name, entry in self.models.items() if entry.state != "retired"}


def was_lost(known: Snapshot, read: Snapshot) -> bool:
    """Whether a store that had a registry has none any more: it came back without its data. Pure.

    What was known then goes on to hold: nobody has asked to take a model out of service.
    """
    return known.epoch is not None and read.epoch is None


class Registry:
    """Reads and writes the hashes. Synchronous: call it in a thread from async code.

    Aliases are changed by `service/rollout/store.py`.
    """

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    def snapshot(self) -> Snapshot:
        """All models, workers and aliases."""
        pipe = self._redis.pipeline(transaction=True)
        pipe.hgetall(MODELS_KEY)
        pipe.hgetall(WORKERS_KEY)
        pipe.hgetall(ALIASES_KEY)
        pipe.get(REVISION_KEY)
        pipe.get(EPOCH_KEY)
        models, workers, aliases, revision, epoch = pipe.execute()
        named = [Alias.model_validate_json(value) for value in aliases.values()]
        entries = [ModelEntry.model_validate_json(value) for value in models.values()]
        states = [WorkerState.model_validate_json(value) for value in workers.values()]
        return Snapshot(
            models={entry.name: entry for entry in sorted(entries, key=lambda e: e.created)},
            workers=tuple(sorted(states, key=lambda s: s.id)),
            aliases={alias.name: alias for alias in sorted(named, key=lambda a: a.name)},
            revision=int(revision or 0),
            epoch=None if epoch is None else epoch.decode(),
        )

    def restore(self, known: Snapshot, keys: Iterable[ApiKey]) -> bool:
        """Give a store that lost its data what was known: models, workers, aliases and API keys.

        Jobs, evaluations, histories and counts of comparisons are not known here, and stay lost.

        Returns:
            False where another did so first, or where somebody set up a new registry.
        """
        hashes: dict[str, dict[str, BaseModel]] = {
            MODELS_KEY: dict(known.models),
            WORKERS_KEY: {worker.id: worker for worker in known.workers},
            ALIASES_KEY: dict(known.aliases),
            KEYS_KEY: {key.id: key for key in keys},
        }

        def write(pipe: Any) -> bool:
            if known.epoch is None or pipe.exists(EPOCH_KEY):
                return False
            pipe.multi()
            for name, entries in hashes.items():
                for field, value in entries.items():
                    pipe.hset(name, field, value.model_dump_json())
            pipe.set(REVISION_KEY, known.revision + 1)
            pipe.set(EPOCH_KEY, known.epoch)
            return True

        transaction: Any = self._redis.transaction  # its types forget value_from_callable
        return bool(transaction(write, EPOCH_KEY, value_from_callable=True))

    def model(self, name: str) -> ModelEntry | None:
        """One model by name."""
        value = self._redis.hget(MODELS_KEY, name)
        return None if value is None else ModelEntry.model_validate_json(value)

    def put_model(self, entry: ModelEntry) -> None:
        """Register a model, or replace an original or a model's measurements.

        Raises:
            ModelInUseError: another compressed model has that name.
        """
        self._redis.transaction(lambda pipe: _put(pipe, entry), MODELS_KEY)

    def update_model(self, name: str, change: Callable[[ModelEntry], ModelEntry]) -> ModelEntry:
        """Change a model's measurements; no other writer's change is lost.

        Raises:
            ModelNotFoundError: there is none of that name.
            ModelInUseError: the change would make it another model.
        """

        def write(pipe: Any) -> ModelEntry:
            value = pipe.hget(MODELS_KEY, name)
            if value is None:
                raise ModelNotFoundError(name, [])
            changed = change(ModelEntry.model_validate_json(value))
            _put(pipe, changed)
            return changed

        transaction: Any = self._redis.transaction  # its types forget value_from_callable
        changed: ModelEntry = transaction(write, MODELS_KEY, value_from_callable=True)
        return changed

    def remove_model(self, name: str) -> None:
        """Forget a model; its worker is stopped by the worker manager."""
        self._redis.hdel(MODELS_KEY, name)

    def put_worker(self, state: WorkerState) -> None:
        """Record a worker's state."""
        self._redis.hset(WORKERS_KEY, state.id, state.model_dump_json())

    def remove_worker(self, worker_id: str) -> None:
        """Forget a worker."""
        self._redis.hdel(WORKERS_KEY, worker_id)


def _put(pipe: Any, entry: ModelEntry) -> None:
    """Queue the write of an entry on a pipeline that watches the models."""
    value = pipe.hget(MODELS_KEY, entry.name)
    known = None if value is None else ModelEntry.model_validate_json(value)
    if known is not None and known.variant == "compressed" and _differs(known, entry):
        raise ModelInUseError(
            f"The name {entry.name!r} belongs to another compressed model, and models are immutable: "
            "give this one another name."
        )
    pipe.multi()
    pipe.hset(MODELS_KEY, entry.name, entry.model_dump_json())
    pipe.set(EPOCH_KEY, uuid.uuid4().hex, nx=True)


def _differs(known: ModelEntry, entry: ModelEntry) -> bool:
    return any(getattr(known, field) != getattr(entry, field) for field in _IDENTITY)
