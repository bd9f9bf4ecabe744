"""The load generator: raw connections, requests made beforehand, answers framed by hand.

    python -m bench.gateway.load --port P --clients 32 --requests 5000 --body FILE [--stream]

Prints one line of JSON: `seconds`, `latencies_s` (from request to last byte), `first_s` (to the first
token of a stream), `errors`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from pathlib import Path

import uvloop

from bench.gateway.pinning import pin

TIMEOUT_S = 120.0


class Client(asyncio.Protocol):
    """One connection that sends a request as soon as the last one was answered."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._data = bytearray()
        self._first = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """It is open."""
        self._transport: asyncio.Transport = transport  # type: ignore[assignment]
        self._next()

    def connection_lost(self, exc: Exception | None) -> None:
        """It is closed."""
        if self._started:
            self._run.ended(None, None)

    def _next(self) -> None:
        self._data.clear()
        self._started = self._first = 0.0
        if self._run.left == 0:
            self._transport.close()
            return
        self._run.left -= 1
        self._started = time.perf_counter()
        self._transport.write(self._run.request)

    def data_received(self, data: bytes) -> None:
        """Bytes came."""
        self._data += data
        if (not self._first and b'"content": "tok' in data) or b'"content":"tok' in data:
            self._first = self._first or time.perf_counter()
        if not self._complete():
            return
        now = time.perf_counter()
        good = self._data.startswith(b"HTTP/1.1 200") and (
            not self._run.stream or b"[DONE]" in self._data[-200:]
        )
        first = self._first - self._started if self._first else None
        started, self._started = self._started, 0.0
        self._run.ended(now - started if good else None, first)
        self._next()

    def _complete(self) -> bool:
        end = self._data.find(b"\r\n\r\n")
        if end < 0:
            return False
        head = bytes(self._data[:end]).lower()
        start = head.find(b"content-length:")
        if start >= 0:
            return len(self._data) >= end + 4 + int(head[start + 15 :].split(b"\r\n", 1)[0])
        return self._data.endswith(b"0\r\n\r\n")


class Run:
    """All clients' work and what came of it."""

    def __init__(self, request: bytes, requests: int, *, stream: bool) -> None:
        self.request, self.left, self.stream = request, requests, stream
        self._open = requests
        self.latencies: list[float] = []
        self.first: list[float] = []
        self.errors = 0
        self.done = asyncio.Event()

    def ended(self, latency: float | None, first: float | None) -> None:
        """One request was answered, or failed (None)."""
        if latency is None:
            self.errors += 1
        else:
            self.latencies.append(latency)
        if first is not None:
            self.first.append(first)
        self._open -= 1
        if self._open == 0:
            self.done.set()


async def drive(run: Run, port: int, clients: int) -> float:
    """Send everything; seconds that it took."""
    loop = asyncio.get_running_loop()
    started = time.perf_counter()
    for _ in range(clients):
        await loop.create_connection(lambda: Client(run), "127.0.0.1", port)
    try:
        async with asyncio.timeout(TIMEOUT_S):
            await run.done.wait()
    except TimeoutError:
        run.errors += run.left + 1
    return time.perf_counter() - started


async def _main(args: argparse.Namespace) -> None:
    body = args.body.read_bytes()
    head = (
        f"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1:{args.port}\r\n"
        f"content-type: application/json\r\nauthorization: Bearer {args.key}\r\n"
        f"content-length: {len(body)}\r\n\r\n"
    )
    run = Run(head.encode() + body, args.requests, stream=args.stream)
    seconds = await drive(run, args.port, args.clients)
    print(json.dumps({"seconds": seconds, "latencies_s": run.latencies, "first_s": run.first,
                      "errors": run.errors}))  # fmt: skip


def main() -> None:
    """One run."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--clients", type=int, required=True)
    parser.add_argument("--requests", type=int, required=True)
    parser.add_argument("--body", type=Path, required=True)
    parser.add_argument("--key", default="sk-bench")
    parser.add_argument("--stream", action="store_true")
    parser.add_argument("--core", type=int)
    args = parser.parse_args()
    pin(args.core)
    uvloop.run(_main(args))


if __name__ == "__main__":
    main()
