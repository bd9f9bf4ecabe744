"""Ask any OpenAI-compatible endpoint, patiently."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp

from compressor.evaluate.answers import AnswerLog, EvaluationError, Question
from compressor.evaluate.example import MAX_NEW_TOKENS, Example

TIMEOUT_S = 300.0
_PASSING = frozenset({429, 502, 503, 504})  # the same request may be answered later
_REFUSED = frozenset({401, 403})


Turn = Callable[[], Awaitable[None]]
"""Returns when the next question may be asked."""


@dataclass(frozen=True)
class Retry:
    """How often a request is tried, and how long it waits in between."""

    attempts: int = 8
    first_s: float = 0.5
    longest_s: float = 30.0

    def wait_s(self, failures: int, asked_s: float | None, draw: float) -> float:
        """Seconds before the next attempt: doubling, with jitter, or longer if the server asks.

        Args:
            failures: attempts that failed so far, at least 1.
            asked_s: what the answer's `Retry-After` said.
            draw: uniform in [0, 1), so that many clients do not come back at once.
        """
        backoff = min(self.longest_s, self.first_s * 2 ** (failures - 1)) * (0.5 + draw / 2)
        return max(backoff, min(asked_s or 0.0, self.longest_s))


class _PassingError(Exception):
    """This attempt failed; another may not."""

    def __init__(self, reason: str, retry_after_s: float | None = None) -> None:
        super().__init__(reason)
        self.retry_after_s = retry_after_s


class Endpoint:
    """An endpoint's chat completions."""

    def __init__(self, url: str, session: aiohttp.ClientSession, retry: Retry) -> None:
        self.url, self._session, self._retry = api_root(url), session, retry

    async def answer(self, question: Question) -> str:
        """What the model says.

        Raises:
            EvaluationError: the endpoint refuses the question, or does not answer however often asked.
            DatasetError: the image cannot be read.
        """
        body = await asyncio.to_thread(chat_request, question.model, question.example)
        for failures in range(1, self._retry.attempts + 1):
            try:
                return await self._attempt(question, body)
            except _PassingError as error:
                reason, asked_s = str(error), error.retry_after_s
            if failures < self._retry.attempts:
                await asyncio.sleep(self._retry.wait_s(failures, asked_s, random.random()))
        raise EvaluationError(
            f"{self.url} gave no answer in {self._retry.attempts} attempts ({reason}); "
            "see that it is up and repeat the command, which keeps the answers that it has."
        )

    async def _attempt(self, question: Question, body: dict[str, Any]) -> str:
        url = f"{self.url}/chat/completions"
        try:
            async with self._session.post(url, json=body) as response:
                content = await response.read()
        except TimeoutError as error:
            raise _PassingError("it took too long") from error
        except aiohttp.InvalidURL as error:
            raise EvaluationError(
                f"{self.url!r} is no URL; write it as http://HOST:PORT."
            ) from error
        except (aiohttp.ClientError, OSError) as error:
            raise _PassingError("the connection failed") from error
        if response.status in _PASSING:
            after = response.headers.get("retry-after", "")
            raise _PassingError(
                f"status {response.status}: {_complaint(content)}",
                float(after) if after.isdigit() else None,
            )
        if response.status != 200:
            hint = "; name its key by --api-key-env" if response.status in _REFUSED else ""
            raise EvaluationError(
                f"{self.url} refused question {question.example.id!r} of {question.dataset} to model "
                f"{question.model!r} with status {response.status} ({_complaint(content)}){hint}."
            )
        return self._text(content)

    def _text(self, content: bytes) -> str:
        try:
            text = json.loads(content)["choices"][0]["message"]["content"]
        except (ValueError, LookupError, TypeError) as error:
            raise EvaluationError(
                f"{self.url} does not answer like OpenAI's chat completions; check the URL."
            ) from error
        return str(text or "")  # no content: the model ended at once


@asynccontextmanager
async def open_endpoint(
    url: str,
    *,
    api_key: str | None,
    concurrency: int,
    retry: Retry,
    headers: Mapping[str, str] | None = None,
) -> AsyncIterator[Endpoint]:
    """Connections to an endpoint, closed when the block ends."""
    session = aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=concurrency),
        timeout=aiohttp.ClientTimeout(total=TIMEOUT_S),
        headers={**(headers or {}), **({"Authorization": f"Bearer {api_key}"} if api_key else {})},
    )
    async with session:
        yield Endpoint(url, session, retry)


async def at_once() -> None:
    """Every question's turn is now."""


async def ask_endpoint(
    endpoint: Endpoint,
    todo: Sequence[Question],
    log: AnswerLog,
    *,
    concurrency: int,
    advance: Callable[[Question], None],
    turn: Turn = at_once,
) -> None:
    """Ask `concurrency` questions at a time, each at its turn; every answer is kept as it comes.

    Raises:
        EvaluationError: see `Endpoint.answer`; what was answered until then is kept.
        DatasetError: an image cannot be read.
    """
    rest = iter(todo)

    async def client() -> None:
        for question in rest:
            await turn()
            log.add(question, await endpoint.answer(question))
            advance(question)

    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(min(concurrency, len(todo))):
                group.create_task(client())
    except ExceptionGroup as errors:
        raise errors.exceptions[0] from errors


def chat_request(model: str, example: Example) -> dict[str, Any]:
    """The body that asks a question about an image, which travels as a data URL.

    Raises:
        DatasetError: the image cannot be read.
    """
    parts = [
        {"type": "image_url", "image_url": {"url": example.data_url()}},
        {"type": "text", "text": example.prompt},
    ]
    return {
        "model": model,
        "messages": [{"role": "user", "content": parts}],
        "max_tokens": MAX_NEW_TOKENS,
        "temperature": 0,
    }


def api_root(url: str) -> str:
    """The URL that ends in `/v1`, whether it was given with or without."""
    return url.rstrip("/").removesuffix("/v1") + "/v1"


def _complaint(content: bytes) -> str:
    """What an error's body says, in OpenAI's shape or else its first words."""
    try:
        message = str(json.loads(content)["error"]["message"])
    except (ValueError, LookupError, TypeError):
        message = content.decode(errors="replace")
    return " ".join(message.split())[:200].rstrip(".") or "no reason given"
