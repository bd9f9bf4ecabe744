"""A fake engine that misbehaves on command: `python -m tests.support.faulty_engine --port P`.

`POST /mode` with one of `MODES` as its body changes how chats are answered; `/health` stays well, as it
does with many a broken engine, but for the modes that say otherwise. `/running` counts the requests it
has in hand, `/seen` those it ever had, and
`/connections` the connections.
"""

from __future__ import annotations

import argparse
import asyncio
import json
from contextlib import suppress

MODES = (
    "ok",
    "inner_error",  # status 500
    "saturated",  # status 503, Retry-After 1
    "garbage",  # bytes that are no HTTP
    "no_json",  # status 200 and a body that is no completion
    "trickle",  # the head, then a byte a second
    "reset",  # the connection is closed before the answer
    "break",  # a stream is closed in its midst; else as `reset`
    "unended",  # a stream ends cleanly, but without its last event
    "unhealthy",  # hangs, /health too
)
TOKENS = 8


class Engine:
    """The server's state."""

    def __init__(self, delay_s: float) -> None:
        self.mode = "ok"
        self.running = self.seen = self.connections = 0
        self.delay_s = delay_s

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        self.connections += 1
        with suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            while head := await reader.readuntil(b"\r\n\r\n"):
                lines = head.decode("latin-1").split("\r\n")
                method, path, _ = lines[0].split(" ")
                fields = dict(line.lower().split(": ", 1) for line in lines[1:] if line)
                body = await reader.readexactly(int(fields.get("content-length", "0")))
                if not await self._answer(method, path, body, reader, writer):
                    break
        writer.close()

    async def _answer(
        self,
        method: str,
        path: str,
        body: bytes,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> bool:
        """Whether the connection may be used again."""
        if path == "/mode":
            self.mode = body.decode()
            assert self.mode in MODES
        if method == "GET" or path == "/mode":
            if self.mode == "unhealthy" and path == "/health":
                await asyncio.sleep(3600)
            counts = {"/running": self.running, "/seen": self.seen,
                      "/connections": self.connections}  # fmt: skip
            _whole(writer, 200, str(counts.get(path, "ok")).encode())
            return True
        self.running += 1
        self.seen += 1
        try:
            request = json.loads(body)
        except ValueError:
            self.running -= 1
            _whole(writer, 400, b'{"error": {"message": "no JSON"}}')
            return True
        chat = asyncio.ensure_future(self._chat(request, writer))
        # The client sends nothing while it waits: a byte or the end means that it left.
        gone = asyncio.ensure_future(reader.read(1))
        try:
            await asyncio.wait({chat, gone}, return_when=asyncio.FIRST_COMPLETED)
            return chat.done() and not gone.done() and chat.result()
        finally:
            chat.cancel()
            gone.cancel()
            await asyncio.gather(chat, gone, return_exceptions=True)
            self.running -= 1

    async def _chat(self, request: dict[str, object], writer: asyncio.StreamWriter) -> bool:
        mode, stream = self.mode, bool(request.get("stream"))
        asked = json.dumps(request)
        await asyncio.sleep(30 if "slowly" in asked else self.delay_s)
        if mode == "unhealthy":
            await asyncio.sleep(3600)
        if mode == "reset" or (mode == "break" and not stream):
            return False
        if mode == "garbage":
            writer.write(b"\x00\xffEHLO engine\r\n\r\n" * 3)
            await writer.drain()
            return False
        if mode == "inner_error" or "poison" in asked:
            _whole(writer, 500, b'{"error": {"message": "CUDA error", "code": 500}}')
        elif mode == "saturated":
            _whole(writer, 503, b'{"error": {"message": "queue full"}}', b"retry-after: 1\r\n")
        elif mode == "no_json":
            _whole(writer, 200, b"<html>It works!</html>")
        elif mode == "trickle":
            await _trickle(writer)
        elif stream:
            return await _stream(writer, mode, slow="gently" in asked)
        else:
            message = {"role": "assistant", "content": "yes"}
            _whole(
                writer, 200, json.dumps(_completion([{"index": 0, "message": message}])).encode()
            )
        await writer.drain()
        return True


def _completion(choices: list[dict[str, object]]) -> dict[str, object]:
    usage = {"prompt_tokens": 9, "completion_tokens": 2, "total_tokens": 11}
    return {"id": "x", "object": "chat.completion", "created": 1, "model": "tiny",
            "choices": choices, "usage": usage}  # fmt: skip


def _whole(writer: asyncio.StreamWriter, status: int, body: bytes, headers: bytes = b"") -> None:
    head = b"HTTP/1.1 %d X\r\ncontent-type: application/json\r\ncontent-length: %d\r\n%b\r\n"
    writer.write(head % (status, len(body), headers) + body)


async def _trickle(writer: asyncio.StreamWriter) -> None:
    writer.write(
        b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 900\r\n\r\n"
    )
    for _ in range(900):
        writer.write(b" ")
        await writer.drain()
        await asyncio.sleep(1.0)


async def _stream(writer: asyncio.StreamWriter, mode: str, *, slow: bool) -> bool:
    writer.write(
        b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
    )
    for i in range(TOKENS):
        delta = {"role": "assistant", "content": ""} if i == 0 else {"content": f"t{i} "}
        chunk = _completion([{"index": 0, "delta": delta}]) | {"usage": None}
        _chunk(writer, b"data: " + json.dumps(chunk).encode() + b"\n\n")
        await writer.drain()
        await asyncio.sleep(0.5 if slow else 0.01)
        if mode == "break" and i == TOKENS // 2:
            return False
    if mode != "unended":
        _chunk(writer, b"data: [DONE]\n\n")
    writer.write(b"0\r\n\r\n")
    await writer.drain()
    return True


def _chunk(writer: asyncio.StreamWriter, data: bytes) -> None:
    writer.write(b"%x\r\n%b\r\n" % (len(data), data))


async def _run(port: int, delay_s: float) -> None:
    engine = Engine(delay_s)
    server = await asyncio.start_server(engine.serve, "127.0.0.1", port, limit=2**20, backlog=2048)
    async with server:
        await server.serve_forever()


def main() -> None:
    """Serve until killed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--delay-s", type=float, default=0.02)
    args = parser.parse_args()
    asyncio.run(_run(args.port, args.delay_s))


if __name__ == "__main__":
    main()
