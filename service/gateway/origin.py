"""Where a worker is, and the pooled connections to it."""

from __future__ import annotations

import asyncio
import ssl
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from service.gateway.http1 import BrokenError, Connection

CONNECT_TIMEOUT_S = 5.0


class ConnectError(OSError):
    """Nobody listens there."""


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

    def keep(self, connection: Connection) -> None:
        """Take back a connection that can be used again."""
        self.idle.append(connection)

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
