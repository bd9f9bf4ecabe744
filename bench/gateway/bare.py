"""The bare pass-through: raw ASGI, one pooled aiohttp session, no limits, no keys, no metrics.

UPSTREAM=http://127.0.0.1:9000 python -m bench.gateway.bare --port P
"""

from __future__ import annotations

import argparse
import os
from typing import Any

import aiohttp
import uvicorn


class PassThrough:
    """Bytes in, bytes out."""

    def __init__(self, upstream: str) -> None:
        self._url = upstream
        self._session: aiohttp.ClientSession | None = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """ASGI."""
        if scope["type"] != "http":
            return
        if self._session is None:
            connector = aiohttp.TCPConnector(limit=0)
            self._session = aiohttp.ClientSession(connector=connector, auto_decompress=False)
        chunks = []
        more = True
        while more:
            message = await receive()
            chunks.append(message.get("body", b""))
            more = message.get("more_body", False)
        async with self._session.request(
            scope["method"],
            self._url + scope["path"],
            data=b"".join(chunks),
            headers={"content-type": "application/json"},
        ) as response:
            kind = response.headers.get("content-type", "application/json").encode()
            start = {"type": "http.response.start", "status": response.status,
                     "headers": [(b"content-type", kind)]}  # fmt: skip
            await send(start)
            if kind.startswith(b"text/event-stream"):
                async for chunk in response.content.iter_any():
                    await send({"type": "http.response.body", "body": chunk, "more_body": True})
                await send({"type": "http.response.body", "body": b""})
            else:
                await send({"type": "http.response.body", "body": await response.read()})


def main() -> None:
    """Serve until killed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    args = parser.parse_args()
    app = PassThrough(os.environ["UPSTREAM"])
    uvicorn.run(
        app, host="127.0.0.1", port=args.port, log_level="error", access_log=False, lifespan="off",
        backlog=4096,
    )  # fmt: skip


if __name__ == "__main__":
    main()
