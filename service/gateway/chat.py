"""`POST /v1/chat/completions`: admit, route, forward the raw bytes, observe.

A plain ASGI endpoint: the body is parsed only as far as routing needs and is passed on as it came.
"""

from __future__ import annotations

import asyncio
import random
import time
from dataclasses import dataclass
from typing import Any

import aiohttp
import msgspec
from fastapi import FastAPI
from starlette.requests import Request
from starlette.types import Receive, Scope, Send

from service.errors import (
    InvalidRequestError,
    ServiceError,
    UpstreamError,
    UpstreamTimeoutError,
)
from service.gateway.body import read_body
from service.gateway.errors import error_response
from service.gateway.exchange import Answered
from service.gateway.images import check_images
from service.gateway.shadow import text_of
from service.gateway.sse import Completion, UsageFilter
from service.gateway.state import Gateway
from service.registry import ModelEntry, WorkerState
from service.routing.aliases import Choice, choose_model
from service.routing.policy import choose_worker

_PASSED_HEADERS = ("content-type", "x-request-id")


class _StreamOptions(msgspec.Struct):
    include_usage: bool | None = None


class _ChatRequest(msgspec.Struct):
    """What the gateway reads of a request; everything else is the engine's."""

    model: str
    user: str | None = None
    stream: bool | None = None
    stream_options: _StreamOptions | None = None


@dataclass(frozen=True)
class _Exchange:
    """One admitted request."""

    choice: Choice
    worker: WorkerState
    body: bytes
    stream: bool
    usage_asked: bool
    started: float

    @property
    def entry(self) -> ModelEntry:
        """The model that answers."""
        return self.choice.entry


class ChatCompletions:
    """The endpoint; a client that goes away ends its request at the worker too."""

    def __init__(self, app: FastAPI) -> None:
        self._app = app
        self._decoder = msgspec.json.Decoder(_ChatRequest)
        self._completion = msgspec.json.Decoder(Completion)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        gateway: Gateway = self._app.state.gateway
        started = time.perf_counter()
        body = await read_body(Request(scope, receive), gateway.settings.max_body_bytes)
        request = self._parse(body)
        choice = choose_model(
            gateway.snapshot, request.model, session=request.user, draw=random.random()
        )
        entry = choice.entry
        labels = (entry.name, entry.variant)
        try:
            body = await self._admit(gateway, request, body, entry.name)
            worker = choose_worker(gateway.snapshot, entry.name, gateway.load)
        except ServiceError as error:
            gateway.metrics.count_failure(labels, error)
            raise
        options = request.stream_options
        asked = bool(options and options.include_usage)
        exchange = _Exchange(choice, worker, body, bool(request.stream), asked, started)
        with gateway.metrics.in_flight.labels(*labels).track_inprogress():
            gateway.load[worker.id] += 1
            try:
                await _until_disconnect(self._forward(gateway, exchange, send), receive)
            finally:
                gateway.load[worker.id] -= 1

    def _parse(self, body: bytes) -> _ChatRequest:
        try:
            return self._decoder.decode(body)
        except msgspec.ValidationError as error:
            raise InvalidRequestError(f"The request is wrong: {error}.") from error
        except msgspec.DecodeError as error:
            raise InvalidRequestError(
                f"The body is not valid JSON: {error}.", code="invalid_json"
            ) from error

    async def _admit(
        self, gateway: Gateway, request: _ChatRequest, body: bytes, name: str
    ) -> bytes:
        """Check images; for a stream, ask the engine for usage, which the metrics need."""
        has_images = b"image_url" in body
        add_usage = request.stream and not (
            request.stream_options and request.stream_options.include_usage
        )
        if not has_images and not add_usage and name == request.model:
            return body
        content: dict[str, Any] = msgspec.json.decode(body)
        if has_images:
            await asyncio.to_thread(
                check_images,
                content.get("messages"),
                max_pixels=gateway.settings.max_image_pixels,
            )
        if add_usage:
            content["stream_options"] = {
                **(content.get("stream_options") or {}),
                "include_usage": True,
            }
        elif name == request.model:
            return body
        return msgspec.json.encode(content | {"model": name})

    async def _forward(self, gateway: Gateway, exchange: _Exchange, send: Send) -> None:
        """Ask the worker; answer with what it says, or with our error if it breaks off."""
        sender = _Sender(send)
        entry, metrics = exchange.entry, gateway.metrics
        try:
            async with gateway.session.post(
                f"{exchange.worker.url}/v1/chat/completions",
                data=exchange.body,
                headers={"content-type": "application/json"},
            ) as response:
                if exchange.stream and response.status == 200:
                    await self._stream(gateway, exchange, response, sender)
                else:
                    await self._answer(gateway, exchange, response, sender)
        except TimeoutError:
            limit = gateway.settings.request_timeout_s
            await self._fail(gateway, exchange, sender, UpstreamTimeoutError(entry.name, limit))
        except aiohttp.ClientError:
            await self._fail(gateway, exchange, sender, UpstreamError(entry.name))
        else:
            elapsed = time.perf_counter() - exchange.started
            metrics.latency.labels(entry.name, entry.variant).observe(elapsed)

    def _observe(
        self, gateway: Gateway, exchange: _Exchange, status: int, content: bytes | None
    ) -> None:
        """Tell those who compare models."""
        answered = Answered(
            choice=exchange.choice,
            path="/v1/chat/completions",
            body=exchange.body,
            stream=exchange.stream,
            status=status,
            text=text_of(content) if content and exchange.choice.shadow else None,
            first_token_s=None,
            latency_s=time.perf_counter() - exchange.started,
        )
        for observer in gateway.observers:
            observer(answered)

    async def _answer(
        self,
        gateway: Gateway,
        exchange: _Exchange,
        response: aiohttp.ClientResponse,
        sender: _Sender,
    ) -> None:
        content = await response.read()
        await sender.start(response.status, response.headers)
        await sender.body(content, last=True)
        if response.status == 200:
            usage = self._completion.decode(content).usage
            gateway.metrics.count_success(exchange.entry, usage)
        else:
            gateway.metrics.count_rejection(exchange.entry, response.status)
        self._observe(gateway, exchange, response.status, content)

    async def _stream(
        self,
        gateway: Gateway,
        exchange: _Exchange,
        response: aiohttp.ClientResponse,
        sender: _Sender,
    ) -> None:
        events = UsageFilter(keep_usage=exchange.usage_asked)
        entry = exchange.entry
        await sender.start(response.status, response.headers)
        timed = False
        async for chunk in response.content.iter_any():
            await sender.body(events.feed(chunk))
            if events.content_seen and not timed:
                timed = True
                elapsed = time.perf_counter() - exchange.started
                gateway.metrics.first_token.labels(entry.name, entry.variant).observe(elapsed)
        await sender.body(events.flush(), last=True)
        gateway.metrics.count_success(entry, events.usage)
        self._observe(gateway, exchange, 200, None)

    async def _fail(
        self, gateway: Gateway, exchange: _Exchange, sender: _Sender, error: ServiceError
    ) -> None:
        """Report an error; in the midst of a stream, as a last event."""
        entry = exchange.entry
        gateway.metrics.count_failure((entry.name, entry.variant), error)
        self._observe(gateway, exchange, error.status, None)
        response = error_response(error)
        if not sender.started:
            await sender.start(error.status, {"content-type": "application/json"})
            await sender.body(bytes(response.body), last=True)
        elif exchange.stream:
            await sender.body(b"data: " + bytes(response.body) + b"\n\n", last=True)
        else:
            await sender.body(b"", last=True)


class _Sender:
    """Sends a response piece by piece, and knows whether it has begun."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.started = False

    async def start(self, status: int, headers: Any) -> None:
        kept = [(k.encode(), headers[k].encode()) for k in _PASSED_HEADERS if k in headers]
        self.started = True
        await self._send({"type": "http.response.start", "status": status, "headers": kept})

    async def body(self, content: bytes, *, last: bool = False) -> None:
        if content or last:
            await self._send({"type": "http.response.body", "body": content, "more_body": not last})


async def _until_disconnect(work: Any, receive: Receive) -> None:
    """Run `work`, but cancel it once the client is gone."""

    async def gone() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass

    working, watching = asyncio.create_task(work), asyncio.create_task(gone())
    try:
        await asyncio.wait({working, watching}, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            await working
    finally:
        for task in (working, watching):
            task.cancel()
        await asyncio.gather(working, watching, return_exceptions=True)
