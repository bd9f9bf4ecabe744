"""`/compress`: queue a compression job, list jobs, look at one, follow one, cancel one."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from functools import partial
from typing import Annotated

import msgspec
from fastapi import APIRouter, Header, Query, Request
from fastapi.responses import StreamingResponse

from compressor.recipe import Recipe, parse_recipe
from service.errors import InvalidRequestError, ServiceError
from service.gateway.body import read_body
from service.gateway.families import check_compressible
from service.gateway.parameters import JobId
from service.gateway.state import Gateway
from service.gateway.trail import trail_of
from service.jobs.queue import JobQueue
from service.jobs.records import FINAL, JobRecord
from service.routing.policy import find_model
from service.schemas import CompressRequest, JobList, JobLog, parse_compress_request

EVENT_EVERY_S = 0.5
COMMENT_EVERY_S = 15.0
"""So that proxies do not close a stream of a job that stands still."""

router = APIRouter(prefix="/compress", tags=["compression"])
Lines = Annotated[int, Query(ge=1, le=2000, description="How many lines.")]
SCHEMA = {
    "requestBody": {
        "required": True,
        "content": {"application/json": {"schema": CompressRequest.model_json_schema()}},
    }
}


@router.post("", status_code=202, openapi_extra=SCHEMA)
async def submit(
    request: Request,
    idempotency_key: Annotated[
        str | None, Header(max_length=255, description="Any text that is new for each new job.")
    ] = None,
) -> JobRecord:
    """Queue a job; its record has the id to ask for and the name that the new model will have.

    A request that is repeated with the same `Idempotency-Key` gets the job that the first one made.
    """
    gateway: Gateway = request.app.state.gateway
    asked, recipe = await read_request(request)
    submit = partial(
        gateway.queue.submit,
        priority=asked.priority,
        key=idempotency_key,
        traceparent=trail_of(request.scope).traceparent,
    )
    return await asyncio.to_thread(submit, asked.model, recipe.model_dump(mode="json"), asked.name)


async def read_request(request: Request) -> tuple[CompressRequest, Recipe]:
    """The body of `POST /compress`: checked, but for its name.

    Raises:
        InvalidRequestError: it is not such a body, the model is compressed already, or no family of
            the compressor knows it.
        ModelNotFoundError: there is no such model.
        RecipeError: the recipe is wrong.
    """
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
            f"The model {entry.name!r} is compressed already; compress its original"
            f"{f' {entry.base!r}' if entry.base else ''}.",
            param="model",
        )
    recipe = parse_recipe(asked.recipe)
    await asyncio.to_thread(check_compressible, entry)
    return asked, recipe


@router.get("")
async def list_jobs(request: Request) -> JobList:
    """All jobs, newest first."""
    gateway: Gateway = request.app.state.gateway
    return JobList(data=await asyncio.to_thread(gateway.queue.list))


@router.get("/{job_id}")
async def get_job(request: Request, job_id: JobId) -> JobRecord:
    """One job: status, stage, percent, and its report or error once it is over."""
    gateway: Gateway = request.app.state.gateway
    return await asyncio.to_thread(gateway.queue.get, job_id)


@router.delete("/{job_id}")
async def cancel(request: Request, job_id: JobId) -> JobRecord:
    """Cancel a job: its process is stopped, nothing of it stays. A job that is over stays as it is."""
    gateway: Gateway = request.app.state.gateway
    return await asyncio.to_thread(gateway.queue.cancel, job_id)


@router.get("/{job_id}/logs")
async def logs(request: Request, job_id: JobId, last: Lines = 200) -> JobLog:
    """The last lines of a job's log."""
    gateway: Gateway = request.app.state.gateway
    return JobLog(lines=[*await asyncio.to_thread(gateway.queue.logs, job_id, last)])


@router.get(
    "/{job_id}/events",
    response_class=StreamingResponse,
    responses={
        200: {"content": {"text/event-stream": {}}, "description": "Until the job is over."}
    },
)
async def events(request: Request, job_id: JobId) -> StreamingResponse:
    """Follow a job until it is over: status, stage, percent and seconds left, as they change."""
    gateway: Gateway = request.app.state.gateway
    first = await asyncio.to_thread(gateway.queue.get, job_id)
    return StreamingResponse(
        follow(gateway.queue, first),
        media_type="text/event-stream",
        headers={"cache-control": "no-store", "x-accel-buffering": "no"},
    )


async def follow(queue: JobQueue, record: JobRecord) -> AsyncIterator[str]:
    """An event for every change of a job, the last one for its end; each has everything."""
    sent, quiet_since = "", time.monotonic()
    while True:
        event = event_of(record)
        if event != sent:
            sent, quiet_since = event, time.monotonic()
            yield event
        elif time.monotonic() - quiet_since > COMMENT_EVERY_S:
            quiet_since = time.monotonic()
            yield ": still there\n\n"
        if record.status in FINAL:
            return
        await asyncio.sleep(EVENT_EVERY_S)
        try:
            record = await asyncio.to_thread(queue.get, record.id)
        except ServiceError:
            continue  # Redis is away; the job goes on


def event_of(record: JobRecord) -> str:
    """A job's state as a server-sent event, named by its status. Pure."""
    fields = {"id", "name", "status", "stage", "percent", "seconds_left", "attempt", "error"}
    return f"event: {record.status}\ndata: {record.model_dump_json(include=fields)}\n\n"
