"""`/compress`: queue a compression job, list jobs, look at one, cancel one."""

from __future__ import annotations

import asyncio

import msgspec
from fastapi import APIRouter, Request

from compressor.recipe import Recipe, parse_recipe
from service.errors import InvalidRequestError
from service.gateway.body import read_body
from service.gateway.state import Gateway
from service.jobs.records import JobRecord
from service.routing.policy import find_model
from service.schemas import CompressRequest, JobList, parse_compress_request

router = APIRouter(prefix="/compress", tags=["compression"])
_SCHEMA = {
    "requestBody": {
        "required": True,
        "content": {"application/json": {"schema": CompressRequest.model_json_schema()}},
    }
}


@router.post("", status_code=202, openapi_extra=_SCHEMA)
async def submit(request: Request) -> JobRecord:
    """Queue a job; its record has the id to ask for and the name that the new model will have."""
    gateway: Gateway = request.app.state.gateway
    body = await read_body(request, gateway.settings.max_body_bytes)
    try:
        content = msgspec.json.decode(body)
    except msgspec.DecodeError as error:
        raise InvalidRequestError(
            f"The body is not valid JSON: {error}.", code="invalid_json"
        ) from error
    asked = parse_compress_request(content)
    entry = find_model(gateway.snapshot, asked.model)
    if entry.variant != "original":
        raise InvalidRequestError(
            f"The model {entry.name!r} is compressed already; compress its original {entry.base!r}.",
            param="model",
        )
    recipe: Recipe = parse_recipe(asked.recipe)
    return await asyncio.to_thread(
        gateway.queue.submit, asked.model, recipe.model_dump(mode="json"), asked.name
    )


@router.get("")
async def list_jobs(request: Request) -> JobList:
    """All jobs, newest first."""
    gateway: Gateway = request.app.state.gateway
    return JobList(data=await asyncio.to_thread(gateway.queue.list))


@router.get("/{job_id}")
async def get_job(request: Request, job_id: str) -> JobRecord:
    """One job: status, stage, percent, and its report or error once it is over."""
    gateway: Gateway = request.app.state.gateway
    return await asyncio.to_thread(gateway.queue.get, job_id)


@router.delete("/{job_id}")
async def cancel(request: Request, job_id: str) -> JobRecord:
    """Cancel a job: its process is stopped, nothing of it stays. A job that is over stays as it is."""
    gateway: Gateway = request.app.state.gateway
    return await asyncio.to_thread(gateway.queue.cancel, job_id)
