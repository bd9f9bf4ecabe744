"""`/models`: every registered model with its lineage; retire one, delete one; who changed what."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path
from typing import Annotated, Literal

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, ConfigDict, Field
from redis.exceptions import RedisError

from service.errors import QueueUnavailableError
from service.gateway.actor import actor
from service.gateway.aliases import ChangeList
from service.gateway.parameters import ModelName, Why
from service.gateway.state import Gateway
from service.registry import ModelEntry, WorkerStatus
from service.rollout.store import RolloutStore
from service.routing.policy import find_model, workers_of

router = APIRouter(prefix="/models", tags=["models"])
Files = Annotated[bool, Query(description="Remove the checkpoint as well.")]


class WorkerView(BaseModel):
    """A process that serves the model."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    status: WorkerStatus
    """Ready ones answer; one in backoff failed to start and is tried again later."""
    restarts: int
    """Times that its process ended by itself, or did not start in time."""
    error: str | None
    """What keeps it from being ready, or ended it last."""


class ModelView(BaseModel):
    """A model, and who uses it."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    model: ModelEntry
    """What is registered of it."""
    ready: bool
    """Whether one of its workers can answer."""
    aliases: list[str]
    """That point to it."""
    children: list[str]
    """Models that were compressed from it."""
    workers: list[WorkerView]
    """Its processes, ready or not."""


class ModelList(BaseModel):
    """All models."""

    object: Literal["list"] = "list"
    data: list[ModelView]


class Retire(BaseModel):
    """Take a model out of service."""

    model_config = ConfigDict(
        extra="forbid",
        use_attribute_docstrings=True,
        json_schema_extra={"examples": [{"reason": "old"}]},
    )

    reason: Annotated[str, Field(max_length=500)] = ""
    """For the history."""


@router.get("")
async def list_models(request: Request) -> ModelList:
    """All registered models, retired ones too, with lineage and measurements."""
    gateway: Gateway = request.app.state.gateway
    return ModelList(data=[_view(gateway, e) for e in gateway.snapshot.models.values()])


@router.get("/{name}")
async def get_model(request: Request, name: ModelName) -> ModelView:
    """One model."""
    gateway: Gateway = request.app.state.gateway
    return _view(gateway, find_model(gateway.snapshot, name))


@router.post("/{name}/retire", status_code=202)
async def retire(request: Request, name: ModelName, body: Retire) -> ModelView:
    """No new requests from now on; once those under way are answered its worker is stopped."""
    gateway: Gateway = request.app.state.gateway
    by = actor(request, body.reason)
    try:
        entry = await asyncio.to_thread(RolloutStore(gateway.redis).retire, name, by)
    except RedisError as error:
        raise QueueUnavailableError from error
    await gateway.refresh()
    return _view(gateway, entry)


@router.delete("/{name}")
async def delete(
    request: Request, name: ModelName, files: Files = False, reason: Why = ""
) -> ModelEntry:
    """Forget a retired model; with `files`, remove the checkpoint that a job of this service made."""
    gateway: Gateway = request.app.state.gateway
    by = actor(request, reason)
    try:
        entry = await asyncio.to_thread(RolloutStore(gateway.redis).delete_model, name, by)
    except RedisError as error:
        raise QueueUnavailableError from error
    directory = Path(entry.path)
    if files and entry.job and directory.parent == gateway.settings.models_dir.resolve():
        await asyncio.to_thread(shutil.rmtree, directory, ignore_errors=True)
    await gateway.refresh()
    return entry


@router.get("/{name}/history")
async def history(request: Request, name: ModelName) -> ChangeList:
    """Who changed the model's state, when and why; also of one that was deleted."""
    gateway: Gateway = request.app.state.gateway
    store = RolloutStore(gateway.redis)
    try:
        found = await asyncio.to_thread(lambda: store.history(kind="model", name=name))
    except RedisError as error:
        raise QueueUnavailableError from error
    return ChangeList(data=found)


def _view(gateway: Gateway, entry: ModelEntry) -> ModelView:
    snapshot = gateway.snapshot
    return ModelView(
        model=entry,
        ready=entry.name in snapshot.ready_models,
        aliases=[a.name for a in snapshot.aliases.values() if entry.name in a.models],
        children=[e.name for e in snapshot.models.values() if e.base == entry.name],
        workers=[
            WorkerView(status=w.status, restarts=w.restarts, error=w.error)
            for w in workers_of(snapshot, entry.name)
        ],
    )
