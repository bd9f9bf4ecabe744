"""`/evaluations`: ask a dataset of served models, at low priority; list, look at and cancel."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Annotated, Literal, TypeVar

from fastapi import APIRouter, Body, Request
from pydantic import BaseModel, ConfigDict, Field
from redis.exceptions import RedisError

from compressor.evaluate.datasets import DATASETS
from service.errors import InvalidRequestError, QueueUnavailableError
from service.evaluations.records import EvaluationRecord, EvaluationRecords
from service.gateway.parameters import EvaluationId
from service.gateway.state import Gateway
from service.routing.policy import find_model

router = APIRouter(prefix="/evaluations", tags=["evaluations"])
T = TypeVar("T")
_EXAMPLES = [
    {"dataset": "easy-vqa", "models": ["shapes-llava", "shapes-llava-flops0.5"], "samples": 500}
]


class EvaluationRequest(BaseModel):
    """Body of `POST /evaluations`."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    dataset: str | list[str]
    """One or several of the datasets that come with the service."""
    models: Annotated[list[str], Field(min_length=1, max_length=2)]
    """One, or two that are compared: the second minus the first, paired by question."""
    samples: Annotated[int, Field(ge=1, le=1_000_000)] = 200
    """Questions of each dataset's test split, drawn by the seed."""
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    """Two evaluations with one seed ask the same questions."""


class EvaluationList(BaseModel):
    """Answer of `GET /evaluations`."""

    object: Literal["list"] = "list"
    data: list[EvaluationRecord]


@router.post("", status_code=202)
async def submit(
    request: Request, body: Annotated[EvaluationRequest, Body(examples=_EXAMPLES)]
) -> EvaluationRecord:
    """Queue an evaluation; its questions wait while clients are being answered."""
    gateway: Gateway = request.app.state.gateway
    names = [body.dataset] if isinstance(body.dataset, str) else body.dataset
    for name in names:
        if name not in DATASETS:
            known = ", ".join(DATASETS)
            raise InvalidRequestError(
                f"The dataset {name!r} is unknown; known: {known}.", param="dataset"
            )
    if not names or len(set(names)) < len(names):
        raise InvalidRequestError("Name at least one dataset, each once.", param="dataset")
    if len(set(body.models)) < len(body.models):
        raise InvalidRequestError("The two models are the same; name two.", param="models")
    for model in body.models:
        find_model(gateway.snapshot, model)
    record = EvaluationRecord(
        models=tuple(body.models), datasets=tuple(names), samples=body.samples, seed=body.seed
    )
    return await _stored(gateway, lambda records: records.create(record))


@router.get("")
async def list_evaluations(request: Request) -> EvaluationList:
    """All evaluations, newest first."""
    gateway: Gateway = request.app.state.gateway
    return EvaluationList(data=await _stored(gateway, lambda records: records.list()))


@router.get("/{evaluation_id}")
async def get_evaluation(request: Request, evaluation_id: EvaluationId) -> EvaluationRecord:
    """One evaluation: how far it is, and its report once it is finished."""
    gateway: Gateway = request.app.state.gateway
    return await _stored(gateway, lambda records: records.get(evaluation_id))


@router.delete("/{evaluation_id}")
async def cancel(request: Request, evaluation_id: EvaluationId) -> EvaluationRecord:
    """Cancel an evaluation; one that is over stays as it is."""
    gateway: Gateway = request.app.state.gateway

    def stop(records: EvaluationRecords) -> EvaluationRecord:
        records.update(evaluation_id, status="cancelled", ended=time.time())
        return records.get(evaluation_id)

    return await _stored(gateway, stop)


async def _stored(gateway: Gateway, act: Callable[[EvaluationRecords], T]) -> T:
    records = EvaluationRecords(gateway.redis, ttl_s=gateway.settings.job_ttl_s)
    try:
        return await asyncio.to_thread(act, records)
    except RedisError as error:
        raise QueueUnavailableError from error
