"""A fake engine inside the test's own event loop, whose answers the test chooses."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web

Answer = Callable[[dict[str, Any]], Awaitable[tuple[int, str]]]
"""From a request's body to status and text."""


@asynccontextmanager
async def scripted_engine(answer: Answer) -> AsyncIterator[str]:
    """Its URL, until the block ends."""

    async def chat(request: web.Request) -> web.Response:
        status, text = await answer(await request.json())
        if status != 200:
            return web.json_response({"error": {"message": text}}, status=status)
        message = {"role": "assistant", "content": text}
        return web.json_response({"choices": [{"index": 0, "message": message}]})

    app = web.Application()
    app.router.add_post("/v1/chat/completions", chat)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    try:
        yield f"http://{host}:{port}"
    finally:
        await runner.cleanup()
