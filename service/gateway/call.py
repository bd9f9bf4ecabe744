"""One request in hand: how it is answered, and by what it may be cut short."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Literal

from starlette.types import Receive, Send

from service.errors import (
    DrainingError,
    RequestTimeoutError,
    ServiceError,
    UpstreamError,
    UpstreamTimeoutError,
)
from service.gateway.errors import error_body, error_headers

Reason = Literal["gone", "deadline", "stall", "ejected", "drain"]
"""Why a request is cut short: its client left, it took too long, its worker fell silent or was found
dead, or the gateway stops."""
Headers = Sequence[tuple[bytes, bytes]]
NEVER = float("inf")
LAST_WORDS_S = 2.0


class Call:
    """Made once a request, in the task that answers it. Times are of the event loop's clock."""

    __slots__ = ("_send", "_task", "_watcher", "closed", "deadline", "limit_s", "model",
                 "quiet_until", "reason", "sent", "streams")  # fmt: skip

    def __init__(self, send: Send, now: float, limit_s: float) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._send, self._task = send, task
        self._watcher: asyncio.Task[None] | None = None
        self.model: str | None = None
        """Which one answers; None before that is known."""
        self.admitted(now, limit_s)
        self.quiet_until = NEVER
        """When silence of the worker is too long."""
        self.reason: Reason | None = None
        self.sent = False
        self.streams = False
        self.closed = False

    def admitted(self, now: float, limit_s: float) -> None:
        """From now on it may take so long."""
        self.limit_s, self.deadline = limit_s, now + limit_s

    def abort(self, reason: Reason) -> None:
        """Cut the request short; what was the first reason counts."""
        if self.reason is None and not self.closed:
            self.reason = reason
            self._task.cancel()

    def resume(self) -> Reason | None:
        """After a CancelledError: why, if it was `abort`'s; the task may then go on."""
        reason, self.reason = self.reason, None
        if reason is not None:
            self._task.uncancel()
        return reason

    def overdue(self, now: float) -> Reason | None:
        """Why it should be aborted now, if it should."""
        if now > self.deadline:
            return "deadline"
        return "stall" if now > self.quiet_until else None

    def watch(self, receive: Receive) -> None:
        """Abort once the client is gone. The body must have been read."""
        self._watcher = asyncio.get_running_loop().create_task(self._wait_gone(receive))

    async def _wait_gone(self, receive: Receive) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        self.abort("gone")

    def close(self) -> None:
        """It is over: nothing may abort its task any more."""
        self.closed = True
        if self._watcher is not None:
            self._watcher.cancel()

    async def answer(self, status: int, headers: Headers, content: bytes) -> None:
        """A whole answer."""
        await self.start(status, (*headers, (b"content-length", b"%d" % len(content))))
        await self._send({"type": "http.response.body", "body": content})

    async def start(self, status: int, headers: Headers) -> None:
        """Status and headers of an answer that comes in pieces."""
        self.sent = True
        await self._send({"type": "http.response.start", "status": status, "headers": headers})

    async def piece(self, content: bytes) -> None:
        """A piece of it."""
        await self._send({"type": "http.response.body", "body": content, "more_body": True})

    async def end(self, content: bytes = b"") -> None:
        """The last piece of it."""
        await self._send({"type": "http.response.body", "body": content})

    async def fail(self, error: ServiceError) -> None:
        """An error as the answer; in the midst of a stream, as its last event."""
        self.closed = True  # nothing may abort this too
        try:
            async with asyncio.timeout(LAST_WORDS_S):
                if not self.sent:
                    await self.answer(error.status, error_headers(error), error_body(error))
                elif self.streams:
                    await self.end(b"data: " + error_body(error) + b"\n\n")
        except TimeoutError:
            return  # the client does not read: the server closes what is incomplete


def cut_short(call: Call) -> ServiceError | None:
    """What a client is told of an aborted request; None where nobody listens."""
    if call.reason == "drain":
        return DrainingError()
    if call.reason == "deadline":
        if call.model is None:
            return RequestTimeoutError(call.limit_s)
        return UpstreamTimeoutError(call.model, call.limit_s)
    if call.reason in {"ejected", "stall"}:
        return UpstreamError(call.model or "")
    return None
