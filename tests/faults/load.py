"""32 clients that never stop asking, and what became of every request."""

from __future__ import annotations

import asyncio
import itertools
import threading
import time
from dataclasses import dataclass, field
from typing import Self

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

from tests.support.http import call, chat, events

CLIENTS = 32


@dataclass
class Outcomes:
    """Of one kind of request."""

    good: int = 0
    told: int = 0
    """Streams that ended with an error event."""
    lost: list[str] = field(default_factory=list)
    """Everything else."""
    slowest_s: float = 0.0


class Load:
    """A context; `plain` and `streams` are complete when it is left or `stop` was called."""

    def __init__(self, port: int) -> None:
        self._url = f"http://127.0.0.1:{port}/v1/chat/completions"
        self.plain, self.streams = Outcomes(), Outcomes()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()))
        self._numbers = itertools.count()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """No new requests; wait for those under way."""
        self._stopped.set()
        self._thread.join()

    async def _run(self) -> None:
        timeout = aiohttp.ClientTimeout(total=90)
        connector = aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
            await asyncio.gather(
                *(self._client(session, stream=i % 2 == 1) for i in range(CLIENTS))
            )

    async def _client(self, session: aiohttp.ClientSession, *, stream: bool) -> None:
        outcomes = self.streams if stream else self.plain
        while not self._stopped.is_set():
            started = time.monotonic()
            body = chat(f"number {next(self._numbers)}", stream=stream)
            try:
                async with session.post(self._url, json=body) as response:
                    content = await response.read()
                    self._judge(outcomes, response.status, content, stream=stream)
            except (aiohttp.ClientError, TimeoutError) as error:
                outcomes.lost.append(f"{type(error).__name__}: {error}")
            outcomes.slowest_s = max(outcomes.slowest_s, time.monotonic() - started)
            await asyncio.sleep(0.02)

    def _judge(self, outcomes: Outcomes, status: int, content: bytes, *, stream: bool) -> None:
        if status != 200:
            outcomes.lost.append(f"{status}: {content[:200]!r}")
        elif not stream:
            outcomes.good += 1
        else:
            *_, last = events(content)
            if last == "[DONE]":
                outcomes.good += 1
            elif isinstance(last, dict) and "error" in last:
                outcomes.told += 1
            else:
                outcomes.lost.append(f"a stream ended in silence: {content[-80:]!r}")


def trusted_workers(url: str) -> float:
    """As the gateway counts them."""
    text = call("GET", f"{url}/metrics").body.decode()
    families = text_string_to_metric_families(text)
    name = "infoprune_trusted_workers"
    return sum(s.value for f in families for s in f.samples if s.name == name)
