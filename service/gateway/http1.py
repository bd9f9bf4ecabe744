"""The gateway's side of HTTP/1.1 towards workers: one connection, bytes as they come.

Leaner than a general client: no task, timer, URL or header object is made for a request
(docs/log.md has the figures). Parsing is httptools', which is Node's llhttp. The pool of connections
is `origin.py`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Protocol, cast

import httptools

IDLE_S = 4.0  # uvicorn, and so vLLM, closes after 5
MAX_HEAD_BYTES = 64 * 1024
PAUSE_AT_BYTES = 256 * 1024


class BrokenError(OSError):
    """The other side broke off, or spoke no HTTP; `stale` if an idle connection had been closed."""

    def __init__(self, message: str, *, stale: bool = False) -> None:
        super().__init__(message)
        self.stale = stale


class Home(Protocol):
    """Where a connection leads, and where it goes back to."""

    def head(self, method: str, path: str) -> bytes:
        """Request line and fixed headers, up to the length."""

    def keep(self, connection: Connection) -> None:
        """Take back a connection that can be used again."""


class Connection(asyncio.Protocol):
    """One connection, one exchange at a time. Whoever leaves an exchange early closes it."""

    def __init__(self, origin: Home, loop: asyncio.AbstractEventLoop) -> None:
        self._origin, self._loop = origin, loop
        self._transport: asyncio.Transport | None = None
        self._parser: httptools.HttpResponseParser | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._chunks: list[bytes] = []
        self._held = 0
        self._head_bytes = 0
        self._paused = False
        self._error: BrokenError | None = None
        self._since = loop.time()
        self._used = self._reusable = False
        self.status = 0
        self.headers: list[tuple[bytes, bytes]] = []
        self.complete = True

    # -- what the gateway calls

    async def request(
        self, method: str, path: str, body: Sequence[bytes], headers: bytes = b""
    ) -> None:
        """Send a request and wait for the head of its answer: `status` and `headers`.

        Raises:
            BrokenError: the connection ended first.
        """
        if self._transport is None:
            raise BrokenError("the connection ended", stale=self._used)
        self._parser = httptools.HttpResponseParser(self)
        self.status, self.complete, self._reusable = 0, False, False
        self.headers, self._chunks, self._held, self._head_bytes = [], [], 0, 0
        length = sum(map(len, body))
        head = b"%b%d\r\n%b\r\n" % (self._origin.head(method, path), length, headers)
        if length < 16 * 1024:
            self._transport.write(head + b"".join(body))
        else:
            self._transport.writelines([head, *body])
        try:
            while not self.status:
                await self._wait()
        except BrokenError as error:
            raise BrokenError(str(error), stale=self._used and not self._head_bytes) from error

    async def chunk(self) -> bytes:
        """The next bytes of the answer's body; empty at its end.

        Raises:
            BrokenError: the connection ended first.
        """
        while not self._chunks and not self.complete:
            await self._wait()
        if not self._chunks:
            return b""
        data = self._chunks[0] if len(self._chunks) == 1 else b"".join(self._chunks)
        self._chunks, self._held = [], 0
        if self._paused and self._transport is not None:
            self._paused = False
            self._transport.resume_reading()
        return data

    async def read(self, limit: int) -> bytes:
        """The whole body.

        Raises:
            BrokenError: the connection ended first, or the body is over `limit` bytes.
        """
        data = await self.chunk()
        if self.complete and not self._chunks:
            return data
        parts, size = [data], len(data)
        while data := await self.chunk():
            parts.append(data)
            size += len(data)
            if size > limit:
                raise BrokenError(f"the answer is over {limit} bytes")
        return b"".join(parts)

    def header(self, name: bytes) -> bytes | None:
        """A header of the answer; `name` in small letters."""
        return next((value for key, value in self.headers if key == name), None)

    def release(self) -> None:
        """Back to the pool if it can be used again, else closed."""
        if not self.complete or self._error or not self._reusable:
            self.close()
            return
        self._used, self._since = True, self._loop.time()
        self._origin.keep(self)

    def usable(self) -> bool:
        """Whether an idle connection may be used for one more request."""
        fresh = self._loop.time() - self._since < IDLE_S
        return fresh and self._error is None and self._transport is not None

    def close(self) -> None:
        """End the connection, and with it the request at the other side."""
        if self._transport is not None:
            self._transport.abort()

    async def _wait(self) -> None:
        if self._error is not None:
            raise self._error
        self._waiter = self._loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    # -- what the transport calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """It is open."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is no subclass

    def data_received(self, data: bytes) -> None:
        """Bytes came."""
        if self._parser is None or self.complete:
            self._fail("it spoke unasked")
            return
        if not self.status:
            self._head_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self._fail(f"no HTTP: {error}")
            return
        if not self.status and self._head_bytes > MAX_HEAD_BYTES:
            self._fail("endless headers")
        elif self._held > PAUSE_AT_BYTES and not self._paused and self._transport is not None:
            self._paused = True
            self._transport.pause_reading()
        self._wake()

    def connection_lost(self, exc: Exception | None) -> None:
        """It is closed."""
        if self._error is None:
            self._error = BrokenError(f"the connection ended{f': {exc}' if exc else ''}")
        if exc is None and self._ends_with_connection():
            self.complete = True
        self._transport = None
        self._wake()

    def _ends_with_connection(self) -> bool:
        """Whether the body has neither a length nor chunks, so that its end is the connection's."""
        framed = {b"content-length", b"transfer-encoding"}
        return bool(self.status) and not any(key in framed for key, _ in self.headers)

    def _fail(self, reason: str) -> None:
        if self._error is None:
            self._error = BrokenError(reason)
        self.close()
        self._wake()

    def _wake(self) -> None:
        waiter = self._waiter
        if waiter is None or waiter.done():
            return
        if self.complete or self._chunks or (self.status and self._error is None):
            waiter.set_result(None)
        elif self._error is not None:
            waiter.set_exception(self._error)

    # -- what the parser calls

    def on_message_begin(self) -> None:
        """A status line."""
        if self.complete:
            raise ValueError("a second answer")

    def on_header(self, name: bytes, value: bytes) -> None:
        """One header."""
        self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        """The head is there."""
        assert self._parser is not None
        status = self._parser.get_status_code()
        if status >= 200:  # 100 Continue and its like say nothing
            self.status = status
        else:
            self.headers = []

    def on_body(self, body: bytes) -> None:
        """A part of the body."""
        self._chunks.append(body)
        self._held += len(body)

    def on_message_complete(self) -> None:
        """The end of the answer."""
        assert self._parser is not None
        if self.status:
            self.complete = True
            # Only here does the parser know: afterwards it has forgotten the length.
            self._reusable = self._parser.should_keep_alive()
