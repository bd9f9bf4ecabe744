"""Read a request's body, up to the limit of one request and that of all together."""

from __future__ import annotations

from collections.abc import Mapping

from starlette.requests import ClientDisconnect, Request
from starlette.types import Message, Receive

from service.errors import BodyTooLargeError, OverloadedError


class ByteBudget:
    """Bytes that all requests in hand may hold together."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self.held = 0

    def hold(self, count: int) -> None:
        """Take `count` bytes; give them back with `free`.

        Raises:
            OverloadedError: they are not to be had now; nothing was taken.
        """
        if self.held + count > self._limit:
            raise OverloadedError("The gateway holds too many bytes of requests; try again soon.")
        self.held += count

    def free(self, count: int) -> None:
        """Give back."""
        self.held -= count


class Holding:
    """One request's share of the budget; grows, and is given back whole."""

    __slots__ = ("_budget", "_count")

    def __init__(self, budget: ByteBudget) -> None:
        self._budget, self._count = budget, 0

    def grow_to(self, count: int) -> None:
        """Hold at least `count` bytes.

        Raises:
            OverloadedError: they are not to be had.
        """
        more = count - self._count
        if more > 0:
            self._budget.hold(more)
            self._count = count

    def add(self, count: int) -> None:
        """Hold so many more."""
        self.grow_to(self._count + count)

    def close(self) -> None:
        """Give all back."""
        self._budget.free(self._count)
        self._count = 0


async def receive_body(
    receive: Receive, headers: Mapping[bytes, bytes], limit_bytes: int, holding: Holding
) -> bytes:
    """The whole body, for a raw ASGI endpoint; what is over the limit is not kept in memory.

    Raises:
        BodyTooLargeError: it is larger than `limit_bytes`.
        OverloadedError: the gateway's budget does not have it.
        ClientDisconnect: the client went away.
    """
    declared = headers.get(b"content-length", b"0")
    expected = int(declared) if declared.isdigit() else 0
    if expected > limit_bytes:
        raise BodyTooLargeError(limit_bytes)
    holding.grow_to(expected)
    message = await receive()
    if message["type"] == "http.request" and not message.get("more_body"):
        return _within(message.get("body", b""), limit_bytes)
    chunks: list[bytes] = []
    size = 0
    while True:
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        chunk = message.get("body", b"")
        size += len(chunk)
        if size > limit_bytes:
            raise BodyTooLargeError(limit_bytes)
        holding.grow_to(size)
        chunks.append(chunk)
        if not message.get("more_body"):
            return b"".join(chunks)
        message = await receive()


def _within(body: bytes, limit_bytes: int) -> bytes:
    if len(body) > limit_bytes:
        raise BodyTooLargeError(limit_bytes)
    return body


def limited(receive: Receive, limit_bytes: int) -> Receive:
    """The same `receive`, which raises `BodyTooLargeError` where a body is over the limit."""
    size = 0

    async def checked() -> Message:
        nonlocal size
        message = await receive()
        size += len(message.get("body", b""))
        if size > limit_bytes:
            raise BodyTooLargeError(limit_bytes)
        return message

    return checked


async def read_body(request: Request, limit_bytes: int) -> bytes:
    """The whole body, for an endpoint of FastAPI's.

    Raises:
        BodyTooLargeError: it is larger than `limit_bytes`.
        ClientDisconnect: the client went away.
    """
    declared = request.headers.get("content-length", "")
    if declared.isdigit() and int(declared) > limit_bytes:
        raise BodyTooLargeError(limit_bytes)
    chunks: list[bytes] = []
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > limit_bytes:
            raise BodyTooLargeError(limit_bytes)
        chunks.append(chunk)
    return b"".join(chunks)


__all__ = ["ByteBudget", "ClientDisconnect", "Holding", "limited", "read_body", "receive_body"]
