"""`/v1/models`, `/metrics`, `/metrics/targets`, `/health`, `/ready`."""

from __future__ import annotations

import asyncio
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from service.gateway.exposition import ReplicaFiles, exposition
from service.gateway.parameters import ModelOrAlias
from service.gateway.scrape_targets import TargetGroup, targets
from service.gateway.state import Gateway
from service.registry import Snapshot
from service.rollout.records import Alias
from service.routing.policy import find_model, workers_of

router = APIRouter()


@router.get(
    "/v1/models", response_description="`data` is the list; each `id` is a name to ask for."
)
async def list_models(request: Request) -> dict[str, Any]:
    """All models and aliases that can be asked, in OpenAI's shape, with what was measured of each."""
    snapshot = request.app.state.gateway.snapshot
    names = [n for n, entry in snapshot.models.items() if entry.state == "active"]
    found = [_describe(request.app.state.gateway, name) for name in (*names, *snapshot.aliases)]
    return {"object": "list", "data": found}


@router.get("/v1/models/{name}", response_description="As it is in the list.")
async def get_model(request: Request, name: ModelOrAlias) -> dict[str, Any]:
    """One model or alias."""
    return _describe(request.app.state.gateway, name)


def _describe(gateway: Gateway, name: str) -> dict[str, Any]:
    alias = gateway.snapshot.aliases.get(name)
    if alias is not None:
        return _describe_alias(gateway.snapshot, alias)
    entry = find_model(gateway.snapshot, name)
    workers = workers_of(gateway.snapshot, entry.name)
    return {
        "id": entry.name,
        "object": "model",
        "created": int(entry.created),
        "owned_by": "infoprune",
        "variant": entry.variant,
        "base": entry.base,
        "params": entry.params,
        "flops": entry.flops.model_dump(),
        "accuracy": {name: i.model_dump() for name, i in entry.accuracy.items()},
        "job": entry.job,
        "state": entry.state,
        "ready": any(worker.status == "ready" for worker in workers),
        "workers": [
            worker.model_dump(include={"status", "restarts", "error"}) for worker in workers
        ],
    }


def _describe_alias(snapshot: Snapshot, alias: Alias) -> dict[str, Any]:
    canary = alias.canary
    return {
        "id": alias.name,
        "object": "model",
        "created": int(alias.updated),
        "owned_by": "infoprune",
        "variant": "alias",
        "targets": [target.model_dump() for target in alias.targets],
        "canary": None if canary is None else {canary.candidate: canary.percent},
        "ready": any(target.model in snapshot.ready_models for target in alias.targets),
    }


@router.get(
    "/metrics",
    response_description="Prometheus's text format; docs/metrics.md says what each metric is.",
)
async def metrics(request: Request) -> Response:
    """Prometheus metrics."""
    gateway: Gateway = request.app.state.gateway
    files = ReplicaFiles.of(gateway.settings)
    content = await asyncio.to_thread(exposition, gateway.metrics.registry, files)
    return Response(content, media_type=CONTENT_TYPE_LATEST)


@router.get("/metrics/targets", response_description="Groups of targets with their labels.")
async def metrics_targets(request: Request) -> list[TargetGroup]:
    """Prometheus service discovery (`http_sd_configs`): the engines that are ready, by model."""
    gateway: Gateway = request.app.state.gateway
    return targets(gateway.snapshot)


@router.get("/health", response_description='`{"status": "ok"}`.')
async def health() -> dict[str, str]:
    """The process is alive."""
    return {"status": "ok"}


@router.get(
    "/ready", response_description="`ready`, `models` and `store`; 503 where none is ready."
)
async def ready(request: Request) -> JSONResponse:
    """200 once at least one model can be asked; says which, and whether Redis can be reached."""
    gateway: Gateway = request.app.state.gateway
    models = {
        name: any(w.status == "ready" for w in workers_of(gateway.snapshot, name))
        for name in gateway.snapshot.models
    }
    content = {
        "ready": any(models.values()),
        "models": models,
        "store": "reachable" if gateway.store_reachable else "away",
    }
    return JSONResponse(content, status_code=200 if content["ready"] else 503)
