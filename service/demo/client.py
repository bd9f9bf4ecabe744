"""The demo's side of HTTP: any client could send what this sends."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import aiohttp

from compressor.evaluate.datasets import Example
from compressor.evaluate.endpoint import chat_request
from compressor.evaluate.metrics import score
from service.errors import ServiceError

POLL_S = 0.5


class DemoError(ServiceError):
    """The demo cannot go on; says why."""


@dataclass(frozen=True)
class Answer:
    """One answered question."""

    score: float
    latency_s: float


class ServiceClient:
    """Talks to the gateway. `extra` goes into the body of every chat request."""

    def __init__(
        self, url: str, session: aiohttp.ClientSession, extra: Mapping[str, Any] | None = None
    ) -> None:
        self._url, self._session, self._extra = url, session, extra or {}

    async def models(self) -> dict[str, dict[str, Any]]:
        """Models by name; empty while the gateway does not answer yet."""
        try:
            async with self._session.get(f"{self._url}/v1/models") as response:
                content = await response.json()
        except (aiohttp.ClientError, TimeoutError):
            return {}
        return {model["id"]: model for model in content["data"]}

    async def wait_ready(self, name: str, *, timeout_s: float) -> AsyncIterator[str]:
        """Wait until a model can be asked; yields what it is waiting for.

        Raises:
            DemoError: it took too long, or its worker keeps failing.
        """
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            model = (await self.models()).get(name)
            if model is not None and model["ready"]:
                return
            workers = model["workers"] if model else []
            errors = [worker["error"] for worker in workers if worker["error"]]
            if errors and max(worker["restarts"] for worker in workers) >= 3:
                raise DemoError(f"The worker of {name} does not start: {errors[0]}")
            yield errors[0] if errors else "starting vLLM" if workers else "starting"
            await asyncio.sleep(POLL_S)
        raise DemoError(f"{name} was not ready within {timeout_s:.0f} s; see the logs.")

    async def submit(self, model: str, recipe: dict[str, Any]) -> dict[str, Any]:
        """`POST /compress`."""
        return await self._json("POST", "/compress", {"model": model, "recipe": recipe})

    async def job(self, job_id: str) -> dict[str, Any]:
        """`GET /compress/{job_id}`."""
        found: dict[str, Any] = await self._json("GET", f"/compress/{job_id}")
        return found

    async def follow(self, job_id: str) -> AsyncIterator[dict[str, Any]]:
        """A job's record, again and again until it is over.

        Raises:
            DemoError: it failed or was cancelled.
        """
        while True:
            job = await self.job(job_id)
            yield job
            if job["status"] == "finished":
                return
            if job["status"] in {"failed", "cancelled"}:
                raise DemoError(f"The job {job['status']}: {job['error'] or 'by a client'}")
            await asyncio.sleep(POLL_S)

    async def ask(self, model: str, example: Example) -> Answer:
        """One question through `/v1/chat/completions`, greedily."""
        started = time.perf_counter()
        body = {**chat_request(model, example), **self._extra}
        content = await self._json("POST", "/v1/chat/completions", body)
        latency = time.perf_counter() - started
        text = content["choices"][0]["message"]["content"] or ""
        return Answer(score(text, example.answers, example.metric), latency)

    async def ask_all(
        self, model: str, asked: Sequence[Example], *, concurrency: int
    ) -> tuple[list[Answer], float]:
        """Answers in order, and how long all of them took together, in seconds."""
        slots = asyncio.Semaphore(concurrency)

        async def one(example: Example) -> Answer:
            async with slots:
                return await self.ask(model, example)

        started = time.perf_counter()
        answers = await asyncio.gather(*(one(example) for example in asked))
        return list(answers), time.perf_counter() - started

    async def _json(self, method: str, path: str, body: Any = None) -> Any:
        async with self._session.request(method, self._url + path, json=body) as response:
            content = await response.json()
            if response.status >= 400:
                raise DemoError(content["error"]["message"])
            return content
