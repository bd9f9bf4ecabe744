"""The gateway's application: what is served where, and what lives as long as it does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from importlib.metadata import version

import aiohttp
from fastapi import FastAPI
from redis import Redis
from redis.backoff import NoBackoff
from redis.retry import Retry
from starlette.routing import Route

from service.gateway import aliases, compression, errors, evaluations, lifecycle, models
from service.gateway.chat import ChatCompletions
from service.gateway.control import controlling, duties
from service.gateway.state import Gateway
from service.settings import Settings


def create_app(settings: Settings) -> FastAPI:
    """Build the application. Nothing is connected before its lifespan begins.

    Raises:
        SettingsError: no Redis is named.
    """
    redis_url = settings.require_redis_url()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        # No retries: while Redis is away, /compress shall say so at once.
        redis = Redis.from_url(
            redis_url, socket_connect_timeout=1.0, socket_timeout=5.0, retry=Retry(NoBackoff(), 0)
        )
        connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=4.0)
        timeout = aiohttp.ClientTimeout(total=settings.request_timeout_s, sock_connect=5.0)
        async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
            gateway = Gateway(settings, redis, session)
            app.state.gateway = gateway
            await gateway.refresh()
            poll = asyncio.create_task(gateway.poll())
            async with controlling(gateway, *duties(gateway)):
                yield
            poll.cancel()
            with suppress(asyncio.CancelledError):
                await poll
        redis.close()

    app = FastAPI(
        title="InfoPrune",
        version=version("infoprune"),
        description="Compresses a vision-language model while it is served, and compares the two.",
        lifespan=lifespan,
    )
    errors.install(app)
    app.router.routes.append(
        Route("/v1/chat/completions", ChatCompletions(app), methods=["POST"], name="chat")
    )
    app.include_router(models.router)
    app.include_router(compression.router)
    app.include_router(aliases.router)
    app.include_router(lifecycle.router)
    app.include_router(evaluations.router)
    return app
