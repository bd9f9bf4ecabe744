"""The gateway's application: what is served where, and what lives as long as it does."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from importlib.metadata import version

from fastapi import FastAPI
from redis import Redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from service.gateway import (
    aliases,
    api_docs,
    comparison,
    compression,
    errors,
    evaluations,
    lifecycle,
    models,
    openapi,
    recipes,
    reports,
    web,
)
from service.gateway.ask import CHAT, COMPLETIONS, AskReader
from service.gateway.control import controlling, duties
from service.gateway.front import Endpoint, Front
from service.gateway.history import History
from service.gateway.inference import Inference
from service.gateway.ledger import Ledger
from service.gateway.lineage import Lineage
from service.gateway.sharing import Sharing
from service.gateway.state import Gateway
from service.gateway.vqa import Vqa
from service.settings import Settings
from service.telemetry.access import open_access_log
from service.telemetry.tracing import open_tracing

VQA = "/v1/vqa"


def create_app(settings: Settings) -> Front:
    """Build the application. Nothing is connected before its lifespan begins.

    Raises:
        SettingsError: no Redis is named.
    """
    redis_url = settings.require_redis_url()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        redis, quick = _redis(redis_url, timeout_s=5.0), _redis(redis_url, timeout_s=1.0)
        gateway = Gateway(
            settings,
            redis,
            tracing=open_tracing(settings, "infoprune-gateway"),
            access=open_access_log(settings),
        )
        app.state.gateway = gateway
        app.state.history = history = History(gateway.metrics.registry, settings)
        await gateway.refresh()
        gateway.metrics.registry.register(Lineage(lambda: gateway.snapshot))
        # Where Redis does not answer soon, a gateway holds its share of the keys' limits by itself.
        sharing = Sharing(gateway.keys, Ledger(quick, uuid.uuid4().hex[:12]))
        chores = (gateway.poll(), gateway.sweep(), sharing.run(), history.run())
        tasks = [asyncio.create_task(chore) for chore in chores]
        async with controlling(gateway, *duties(gateway)):
            yield
        for task in tasks:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
        await gateway.close()
        if gateway.tracing is not None:
            await asyncio.to_thread(gateway.tracing.close)
        await sharing.leave()
        quick.close()
        redis.close()

    app = FastAPI(
        title="InfoPrune",
        version=version("infoprune"),
        description="Compresses a vision-language model while it is served, and compares the two.",
        lifespan=lifespan,
        docs_url=None,  # FastAPI's own loads its files from elsewhere; `api_docs` does not
        redoc_url=None,
    )
    _install(app, settings)

    def gateway() -> Gateway:
        return app.state.gateway

    inference = Inference(gateway, AskReader(settings))
    hot: dict[str, Endpoint] = {
        CHAT: inference,
        COMPLETIONS: inference,
        VQA: Vqa(gateway, inference),
    }
    return Front(app, gateway, hot)


def _install(app: FastAPI, settings: Settings) -> None:
    """Everything but the hot routes."""
    errors.install(app)
    app.include_router(models.router)
    app.include_router(recipes.router)  # before the jobs: `options` is no job's id
    app.include_router(reports.router)
    app.include_router(compression.router)
    app.include_router(comparison.router)
    app.include_router(aliases.router)
    app.include_router(lifecycle.router)
    app.include_router(evaluations.router)
    web.install(app, settings)
    api_docs.install(app)
    openapi.install(app)


def _redis(url: str, *, timeout_s: float) -> Redis:
    """No retries: while Redis is away, /compress shall say so at once."""
    patience = Retry(NoBackoff(), 0)
    return Redis.from_url(url, socket_connect_timeout=1.0, socket_timeout=timeout_s, retry=patience)
