"""What is told of a request once it is over: one line of the log and, where it is traced, a span.

`front.py` makes a trail for every request and closes it; `inference.py` adds which model, worker and
tokens it was.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Mapping
from types import TracebackType
from typing import TYPE_CHECKING

from starlette.types import Message, Scope, Send

from service.errors import ServiceError
from service.gateway.ask import Ask
from service.gateway.pool import Slot
from service.gateway.request_span import RequestSpan
from service.routing.aliases import Choice
from service.telemetry.access import AccessLog, Line
from service.telemetry.logs import bind, request_id
from service.telemetry.metrics import TokenCounts

if TYPE_CHECKING:
    from service.telemetry.otel import Tracing

HEADER = b"x-request-id"
CLIENT_LEFT = 499
_POLLED = frozenset({"/health", "/ready", "/metrics", "/metrics/targets"})
"""Asked every few seconds: neither logged nor traced."""
_TRACE = (b"traceparent", b"tracestate")


class Trail:
    """One request's. A context while one worker is asked: see `attempt`."""

    __slots__ = ("_id", "_passed", "_polled", "_started", "_transport", "attempts", "choice", "error",
                 "first_token_s", "id", "key", "method", "path", "span", "status", "usage",
                 "worker")  # fmt: skip

    def __init__(
        self, scope: Scope, headers: Mapping[bytes, bytes], send: Send, tracing: Tracing | None
    ) -> None:
        # It keeps no scope: that would be a cycle, which only the garbage collector ends.
        self._transport, self._started = send, time.perf_counter()
        self.method, self.path = scope["method"], scope["path"]
        self.id = request_id(headers.get(HEADER))
        self._id = self.id.encode()
        self.status, self.attempts = 0, 0
        self.key: str | None = None
        """Name of the API key that was shown."""
        self.choice: Choice | None = None
        self.worker: str | None = None
        self.usage: TokenCounts | None = None
        self.first_token_s: float | None = None
        self.error: str | None = None
        """Code of the error that ended it."""
        self.span: RequestSpan | None = None
        self._polled = self.path in _POLLED
        self._passed = b"x-request-id: %b\r\n" % self._id
        if tracing is None or self._polled:
            for name in _TRACE:
                if name in headers:
                    self._passed += b"%b: %b\r\n" % (name, headers[name])
            bind(request_id=self.id)
        else:
            given = {n.decode(): headers[n].decode("latin-1") for n in _TRACE if n in headers}
            self.span = RequestSpan(tracing, self.method, self.path, self.id, given)
            bind(request_id=self.id, trace_id=self.span.trace_id)
        scope.setdefault("state", {})["trail"] = self

    def send(self, message: Message) -> Awaitable[None]:
        """ASGI's: notes the status, and adds the request's id to the answer."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            message["headers"] = [*message.get("headers", ()), (HEADER, self._id)]
        return self._transport(message)

    def chosen(self, ask: Ask, choice: Choice) -> None:
        """Which model answers."""
        self.choice = choice
        if self.span is not None:
            self.span.chosen(ask, choice)

    def attempt(self, slot: Slot) -> Trail:
        """A context for asking one worker."""
        self.attempts, self.worker = self.attempts + 1, slot.id
        if self.span is not None:
            self.span.attempt(slot)
        return self

    def __enter__(self) -> None:
        return None

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        if self.span is not None:
            self.span.attempted(None if error is None else reason_of(error))

    @property
    def worker_headers(self) -> bytes:
        """What the worker gets of it: the id, and whose part the engine's own span is."""
        if self.span is None:
            return self._passed
        carried = "".join(f"{k}: {v}\r\n" for k, v in self.span.carrier().items())
        return self._passed + carried.encode()

    @property
    def traceparent(self) -> str | None:
        """Where it is traced: what a job is told that it asked for."""
        return None if self.span is None else self.span.carrier().get("traceparent")

    def close(self, access: AccessLog | None, route: str | None = None) -> None:
        """It is over: tell. `route` is the pattern of the path, where one matched."""
        status = self.status or CLIENT_LEFT
        if self.span is not None:
            if route is not None:
                self.span.routed(route)
            self.span.end(status, self.usage, self.error, self.first_token_s)
        if access is not None and not self._polled:
            access.tell(self._line(access.now(), status))

    def _line(self, now: str, status: int) -> Line:
        latency_s = round(time.perf_counter() - self._started, 6)
        line = Line(now, "info", "request", self.id, self.method, self.path, status, latency_s)
        line.key, line.error = self.key, self.error
        if self.span is not None:
            line.trace_id = self.span.trace_id
        if (choice := self.choice) is not None:
            line.alias, line.model, line.variant = (
                choice.alias, choice.entry.name, choice.entry.variant,
            )  # fmt: skip
            line.worker, line.attempts = self.worker, self.attempts
        if (usage := self.usage) is not None:
            line.prompt_tokens, line.completion_tokens = (
                usage.prompt_tokens, usage.completion_tokens,
            )  # fmt: skip
        if self.first_token_s is not None:
            line.first_token_s = round(self.first_token_s, 6)
        return line


def trail_of(scope: Scope) -> Trail:
    """The trail of a request that came through `front.py`."""
    found: Trail = scope["state"]["trail"]
    return found


def reason_of(error: BaseException) -> str:
    """A short code for why an attempt failed."""
    if isinstance(error, ServiceError):
        return error.code
    return str(getattr(error, "reason", type(error).__name__))
