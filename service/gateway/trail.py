"""What is told of a request once it is over: one line of the log and, where it is traced, a span.

`front.py` makes a trail for every request and closes it; `inference.py` adds which model, worker and
tokens it was.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Mapping
from types import TracebackType
from typing import Any

import structlog
from starlette.types import Message, Scope, Send

from service.errors import ServiceError
from service.gateway.ask import Ask
from service.gateway.pool import Slot
from service.gateway.request_span import RequestSpan
from service.routing.aliases import Choice
from service.telemetry.logs import bind, request_id
from service.telemetry.metrics import TokenCounts

log = structlog.get_logger()
HEADER = b"x-request-id"
CLIENT_LEFT = 499
_POLLED = frozenset({"/health", "/ready", "/metrics", "/metrics/targets"})
"""Asked every few seconds: told at level debug, and not traced."""
_TRACE = (b"traceparent", b"tracestate")


class Trail:
    """One request's. A context while one worker is asked: see `attempt`."""

    __slots__ = ("_passed", "_scope", "_send", "_started", "attempts", "choice", "error",
                 "first_token_s", "id", "span", "status", "usage", "worker")  # fmt: skip

    def __init__(
        self, scope: Scope, headers: Mapping[bytes, bytes], send: Send, tracing: Any = None
    ) -> None:
        """`tracing` is `service.telemetry.otel.Tracing`, or None where nothing is traced."""
        self._scope, self._send, self._started = scope, send, time.perf_counter()
        self.id = request_id(headers.get(HEADER))
        self.status, self.attempts = 0, 0
        self.choice: Choice | None = None
        self.worker: str | None = None
        self.usage: TokenCounts | None = None
        self.first_token_s: float | None = None
        self.error: str | None = None
        """Code of the error that ended it."""
        self._passed = b"x-request-id: %b\r\n" % self.id.encode()
        self.span: RequestSpan | None = None
        if tracing is None or scope["path"] in _POLLED:
            self._passed += b"".join(
                b"%b: %b\r\n" % (n, headers[n]) for n in _TRACE if n in headers
            )
            bind(request_id=self.id)
        else:
            given = {n.decode(): headers[n].decode("latin-1") for n in _TRACE if n in headers}
            self.span = RequestSpan(tracing, scope["method"], scope["path"], self.id, given)
            bind(request_id=self.id, trace_id=self.span.trace_id)
        scope.setdefault("state", {})["trail"] = self

    def send(self, message: Message) -> Awaitable[None]:
        """ASGI's: notes the status, and adds the request's id to the answer."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            message["headers"] = [*message.get("headers", ()), (HEADER, self.id.encode())]
        return self._send(message)

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
    def copy_headers(self) -> Mapping[str, str]:
        """What a copy for another model gets of it."""
        traced = {} if self.span is None else self.span.carrier()
        return {HEADER.decode(): self.id, **traced}

    @property
    def traceparent(self) -> str | None:
        """Where it is traced: what a job is told that it asked for."""
        return None if self.span is None else self.span.carrier().get("traceparent")

    def close(self) -> None:
        """It is over: tell."""
        status = self.status or CLIENT_LEFT
        if self.span is not None:
            if (route := getattr(self._scope.get("route"), "path", None)) is not None:
                self.span.routed(route)
            self.span.end(status, self.usage, self.error, self.first_token_s)
        tell = log.debug if self._scope["path"] in _POLLED else log.info
        tell("request", **self._fields(status))

    def _fields(self, status: int) -> dict[str, object]:
        found: dict[str, object] = {
            "method": self._scope["method"],
            "path": self._scope["path"],
            "status": status,
            "latency_s": round(time.perf_counter() - self._started, 6),
        }
        if (key := self._scope["state"].get("key_name")) is not None:
            found["key"] = key
        if self.choice is not None:
            found["model"], found["variant"] = self.choice.entry.name, self.choice.entry.variant
            found["worker"], found["attempts"] = self.worker, self.attempts
            if self.choice.alias is not None:
                found["alias"] = self.choice.alias
        if self.usage is not None:
            found["prompt_tokens"] = self.usage.prompt_tokens
            found["completion_tokens"] = self.usage.completion_tokens
        if self.first_token_s is not None:
            found["first_token_s"] = round(self.first_token_s, 6)
        if self.error is not None:
            found["error"] = self.error
        return found


def trail_of(scope: Scope) -> Trail:
    """The trail of a request that came through `front.py`."""
    found: Trail = scope["state"]["trail"]
    return found


def reason_of(error: BaseException) -> str:
    """A short code for why an attempt failed."""
    if isinstance(error, ServiceError):
        return error.code
    return str(getattr(error, "reason", type(error).__name__))
