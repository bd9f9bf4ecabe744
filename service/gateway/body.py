"""Read a request's body, up to the limit."""

from __future__ import annotations

from starlette.requests import ClientDisconnect, Request

from service.errors import BodyTooLargeError


async def read_body(request: Request, limit_bytes: int) -> bytes:
    """The whole body; what is over the limit is not kept in memory.

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


__all__ = ["ClientDisconnect", "read_body"]
