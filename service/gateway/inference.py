"""`POST /v1/chat/completions` and `/v1/completions`: read, choose, forward, relay, observe.

A request goes through this file from top to bottom:

    __call__           ends it with an answer, whatever happens
    _serve             reads the body, chooses the model, fetches images
    _forward           chooses a worker, and another one if the first fails before the client got a byte
    _attempt           asks one worker
    _answer, _stream   pass on what it says

Raw ASGI: the body is decoded once, for a few fields, and passed on as it came.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from dataclasses import dataclass

import msgspec
import structlog
from starlette.types import Receive, Scope, Send

from service.errors import DrainingError, OverloadedError, ServiceError, WorkerNotReadyError
from service.gateway.ask import AskReader, worker_body
from service.gateway.body import ClientDisconnect, Holding, receive_body
from service.gateway.call import NEVER, Call, Headers, cut_short
from service.gateway.exchange import Exchange, observe, seconds_since, tell
from service.gateway.headers import choice_headers, seconds, time_limit
from service.gateway.http1 import BrokenError, Connection
from service.gateway.origin import ConnectError, open_exchange
from service.gateway.pool import NoOtherWorkerError, Slot
from service.gateway.sse import COMPLETION, UsageFilter, looks_like_events
from service.gateway.state import Gateway
from service.gateway.trail import trail_of
from service.routing.aliases import choose_model
from service.telemetry.catalogue import RetryReason

log = structlog.get_logger()
MAX_ATTEMPTS = 4
MAX_ANSWER_BYTES = 64 * 1024 * 1024
BODY_TIMEOUT_S = 30.0
_SATURATED = frozenset({429, 503})
_TO_CLIENT = frozenset({b"content-type", b"retry-after"})


@dataclass(frozen=True, slots=True)
class _Reply:
    """What a worker said, where another may say something better."""

    status: int
    headers: Headers
    content: bytes


class _RetryError(Exception):
    """An attempt failed before the client got a byte; `cause` is what it gets if no other helps."""

    def __init__(self, cause: ServiceError | _Reply, reason: RetryReason) -> None:
        super().__init__(reason)
        self.cause = cause
        self.reason: RetryReason = reason


class Inference:
    """The two endpoints. A client that goes away ends its request at the worker too."""

    def __init__(self, gateway: Callable[[], Gateway], reader: AskReader) -> None:
        self._gateway, self._reader = gateway, reader

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI. Whatever happens, the client hears of it, and nothing of the request is left behind."""
        gateway, trail = self._gateway(), trail_of(scope)
        call = Call(send, asyncio.get_running_loop().time(), BODY_TIMEOUT_S)
        holding = Holding(gateway.bytes)
        gateway.calls.add(call)
        try:
            await self._serve(gateway, call, holding, scope, receive)
        except ServiceError as error:
            trail.error = error.code
            await call.fail(error)
        except ClientDisconnect:
            return
        except asyncio.CancelledError:
            cause = cut_short(call)
            if call.resume() is None:
                raise  # somebody else's, at shutdown
            if cause is not None:
                trail.error = cause.code
                await call.fail(cause)
        except Exception as error:
            log.error("unexpected error", path=scope["path"], exc_info=error)
            trail.error = ServiceError.code
            await call.fail(ServiceError("The gateway failed unexpectedly; its log says why."))
        finally:
            call.close()
            gateway.calls.discard(call)
            holding.close()

    async def _serve(
        self, gateway: Gateway, call: Call, holding: Holding, scope: Scope, receive: Receive
    ) -> None:
        """Read, choose the model, prepare what the worker gets, forward."""
        if gateway.draining:
            raise DrainingError
        trail, started = trail_of(scope), time.perf_counter()
        headers = dict(scope["headers"])
        body = await receive_body(receive, headers, gateway.settings.max_body_bytes, holding)
        limit_s = time_limit(headers, gateway.settings.request_timeout_s)
        call.admitted(asyncio.get_running_loop().time(), limit_s)
        call.watch(receive)
        ask = self._reader.read(scope["path"], body)
        session = ask.user or headers.get(b"x-session-id", b"").decode("latin-1") or None
        choice = choose_model(gateway.snapshot, ask.model, session=session, draw=random.random())
        call.model = choice.entry.name
        trail.chosen(ask, choice)
        series = gateway.metrics.of(choice.entry)
        series.in_flight.inc()
        exchange: Exchange | None = None
        try:
            fetched = await gateway.images.fetch_all(ask.to_fetch, holding) if ask.to_fetch else ()
            parts = worker_body(ask, choice.entry.name, fetched)
            exchange = Exchange(call, ask, choice, series, parts, trail, started)
            low = headers.get(b"x-infoprune-priority") == b"low"
            await self._forward(gateway, exchange, low=low)
        except ServiceError as error:
            series.count_failure(error)
            if exchange is not None:
                tell(gateway.observers, exchange, error.status, None, seconds_since(started))
            raise
        except asyncio.CancelledError:
            cause = cut_short(call)
            if cause is None:
                series.count_departure()
            else:
                series.count_failure(cause)
                if exchange is not None:
                    tell(gateway.observers, exchange, cause.status, None, seconds_since(started))
            raise
        finally:
            series.in_flight.dec()

    async def _forward(self, gateway: Gateway, exchange: Exchange, *, low: bool) -> None:
        """Ask a worker; while the client has no byte yet, another one if that fails."""
        pool = gateway.pool.of(exchange.choice.entry.name)
        tried: list[Slot] = []
        suspects: list[Slot] = []
        last: ServiceError | _Reply | None = None
        for _ in range(MAX_ATTEMPTS):
            asked = time.perf_counter()
            try:
                slot = await pool.acquire(exchange.ask.image, tried, low=low)
            except NoOtherWorkerError:
                break
            except (WorkerNotReadyError, OverloadedError):
                if isinstance(last, _Reply):
                    break
                raise
            exchange.series.queue_time.observe(seconds_since(asked))
            slot.calls.add(exchange.call)
            try:
                with exchange.trail.attempt(slot):
                    await self._attempt(gateway, exchange, slot)
            except _RetryError as failure:
                last = failure.cause
                exchange.series.count_retry(failure.reason)
                # An inner error may be the request's fault: only another worker's answer tells.
                suspects += [slot] if failure.reason == "inner_error" else []
                # An ejected worker is out of the choice anyway, and may come back in time.
                tried += [] if slot.health.ejected else [slot]
                continue
            finally:
                slot.calls.discard(exchange.call)
                pool.release(slot)
            for suspect in suspects:
                suspect.failed(asyncio.get_running_loop().time())
            return
        if isinstance(last, _Reply):
            await self._pass_on(gateway, exchange, last)
        else:
            raise last or exchange.broken()

    async def _attempt(self, gateway: Gateway, exchange: Exchange, slot: Slot) -> None:
        """Ask one worker and relay its answer.

        Raises:
            _RetryError: it failed, and the client has no byte of it.
            UpstreamError: it failed in the midst of its answer.
        """
        call, loop = exchange.call, asyncio.get_running_loop()
        connection: Connection | None = None
        try:
            connection = await open_exchange(
                slot.origin,
                "POST",
                exchange.ask.path,
                exchange.parts,
                exchange.trail.worker_headers,
            )
            if exchange.ask.stream and connection.status == 200:
                await self._stream(gateway, exchange, connection)
            else:
                await self._answer(gateway, exchange, connection, slot)
            slot.succeeded()
        except ConnectError as error:
            slot.refused()
            raise _RetryError(exchange.broken(), "refused") from error
        except BrokenError as error:
            slot.failed(loop.time())
            if call.sent:
                raise exchange.broken() from error
            raise _RetryError(exchange.broken(), "broke_off") from error
        except asyncio.CancelledError:
            if call.reason not in {"ejected", "stall"}:
                raise
            if call.reason == "stall":
                slot.failed(loop.time())  # of an ejected one the probes have judged already
            if call.sent:
                raise  # the client hears of it above
            why = call.resume()
            raise _RetryError(exchange.broken(), "stall" if why == "stall" else "ejected") from None
        finally:
            call.quiet_until = NEVER
            if connection is not None:
                connection.release()

    async def _answer(
        self, gateway: Gateway, exchange: Exchange, connection: Connection, slot: Slot
    ) -> None:
        """A whole answer: it is passed on when it is there, and makes sense."""
        now = asyncio.get_running_loop().time()
        if not connection.complete:
            # Engines answer in one piece: what trickles in after the head is no engine at work.
            exchange.call.quiet_until = now + gateway.settings.stall_timeout_s
        content = await connection.read(MAX_ANSWER_BYTES)
        kept = [(name, value) for name, value in connection.headers if name in _TO_CLIENT]
        reply = _Reply(connection.status, kept, content)
        if reply.status in _SATURATED:
            slot.saturated(now, seconds(connection.header(b"retry-after")))
            raise _RetryError(reply, "saturated")
        if reply.status >= 500:
            raise _RetryError(reply, "inner_error")
        await self._pass_on(gateway, exchange, reply)

    async def _pass_on(self, gateway: Gateway, exchange: Exchange, reply: _Reply) -> None:
        """Give the client a worker's whole answer, and count it."""
        completion = None
        if reply.status == 200:
            try:
                completion = COMPLETION.decode(reply.content)
            except (msgspec.DecodeError, UnicodeDecodeError) as error:
                raise BrokenError("the answer is no completion") from error
        headers = (*reply.headers, *choice_headers(exchange.choice))
        await exchange.call.answer(reply.status, headers, reply.content)
        if completion is None:
            exchange.series.count_rejection(reply.status)
            text = None
        else:
            exchange.trail.usage = completion.usage
            exchange.series.count_success(completion.usage)
            wanted = exchange.choice.shadow is not None and completion.choices
            text = completion.choices[0].said() if wanted else None
        observe(gateway.observers, exchange, reply.status, text)

    async def _stream(self, gateway: Gateway, exchange: Exchange, connection: Connection) -> None:
        """An answer in pieces, each passed on as it comes; begun only when there is a first one."""
        call, loop = exchange.call, asyncio.get_running_loop()
        keep_text = exchange.choice.shadow is not None
        events = UsageFilter(keep_usage=exchange.ask.usage_asked, keep_text=keep_text)
        data = await connection.chunk()
        if not looks_like_events(data):
            raise BrokenError("the answer is no event stream")
        call.streams = True
        head = (b"content-type", connection.header(b"content-type") or b"text/event-stream")
        await call.start(200, (head, *choice_headers(exchange.choice)))
        while data:
            passed = events.feed(data)
            if passed:
                await call.piece(passed)
            if exchange.first_token_s is None and events.content_seen:
                exchange.first_token_s = time.perf_counter() - exchange.started
                exchange.series.first_token.observe(exchange.first_token_s)
            call.quiet_until = loop.time() + gateway.settings.stream_idle_timeout_s
            data = await connection.chunk()
        if not events.finished:
            raise BrokenError("the stream has no end")
        await call.end(events.flush())
        exchange.count_stream(events.usage)
        observe(gateway.observers, exchange, 200, "".join(events.text) if keep_text else None)
