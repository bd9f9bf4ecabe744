"""The gateway's side of HTTP/1.1 towards workers: pooled connections, bytes as they come.

Leaner than a general client: no task, timer, URL or header object is made for a request
(docs/log.md has the figures). Parsing is httptools', which is Node's llhttp.
"""

from __future__ import annotations

import asyncio
import ssl
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import cast
from urllib.parse import urlsplit

import httptools

CONNECT_TIMEOUT_S = 5.0
IDLE_S = 4.0  # uvicorn, and so vLLM, closes after 5
MAX_HEAD_BYTES = 64 * 1024
PAUSE_AT_BYTES = 256 * 1024


class ConnectError(OSError):
    """Nobody listens there."""


class BrokenError(OSError):
    """The other side broke off, or spoke no HTTP; `stale` if an idle connection had been closed."""

    def __init__(self, message: str, *, stale: bool = False) -> None:
        super().__init__(message)
        self.stale = stale


@dataclass
class Origin:
    """Where a server is, and the idle connections to it."""

    url: str
    idle: deque[Connection] = field(default_factory=deque, repr=False)

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        secure = parts.scheme == "https"
        self.host = parts.hostname or ""
        self.port = parts.port or (443 if secure else 80)
        self.prefix = parts.path.rstrip("/")
        self.tls = ssl.create_default_context() if secure else None
        self._host_line = f"host: {parts.netloc.rpartition('@')[2]}\r\n".encode()
        self._heads: dict[tuple[str, str], bytes] = {}

    def head(self, method: str, path: str) -> bytes:
        """Request line and fixed headers, up to the length."""
        found = self._heads.get((method, path))
        if found is None:
            line = f"{method} {self.prefix}{path} HTTP/1.1\r\n".encode()
            found = line + self._host_line + b"content-type: application/json\r\ncontent-length: "
            self._heads[method, path] = found
        return found

    async def connect(self) -> Connection:
        """A fresh connection.

        Raises:
            ConnectError: it was refused, or took too long.
        """
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                _, connection = await loop.create_connection(
                    lambda: Connection(self, loop), self.host, self.port, ssl=self.tls
                )
        except OSError as error:  # TimeoutError is one
            raise ConnectError(str(error)) from error
        return connection

    def take_idle(self) -> Connection | None:
        """The connection that was used last, if the other side still holds it."""
        while self.idle:
            connection = self.idle.pop()
            if connection.usable():
                return connection
            connection.close()
        return None

    def prune(self) -> None:
        """Close what was idle for too long; the oldest are on the left."""
        while self.idle and not self.idle[0].usable():
            self.idle.popleft().close()

    def close(self) -> None:
        """Close the idle connections."""
        while self.idle:
            self.idle.pop().close()


class Connection(asyncio.Protocol):
    """One connection, one exchange at a time. Whoever leaves an exchange early closes it."""

    def __init__(self, origin: Origin, loop: asyncio.AbstractEventLoop) -> None:
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
        self._origin.idle.append(self)

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


async def open_exchange(
    origin: Origin, method: str, path: str, body: Sequence[bytes] = (), headers: bytes = b""
) -> Connection:
    """Send a request over a pooled connection; it is back when the answer's head is there.

    A connection that the server had closed meanwhile is replaced by a fresh one, once.

    Raises:
        ConnectError: nobody listens.
        BrokenError: the other side broke off before its answer.
    """
    while True:
        connection = origin.take_idle() or await origin.connect()
        try:
            await connection.request(method, path, body, headers)
        except BrokenError as error:
            connection.close()
            if error.stale:
                continue
            raise
        except BaseException:
            connection.close()
            raise
        return connection
