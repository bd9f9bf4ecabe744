"""A fake engine fast enough not to be measured: hand-framed HTTP/1.1, answers made beforehand.

python -m bench.gateway.upstream --port P [--core 1]
"""

from __future__ import annotations

import argparse
import asyncio
import json

import uvloop

from bench.gateway.pinning import pin

TOKENS, INTERVAL_S = 20, 0.05
_USAGE = {"prompt_tokens": 90, "completion_tokens": 2, "total_tokens": 92}


def completion(kind: str, choice: dict[str, object]) -> bytes:
    """One answer, or one chunk of it."""
    content = {"id": "chatcmpl-1", "object": kind, "created": 1, "model": "tiny",
               "choices": [{"index": 0, "finish_reason": None, **choice}]}  # fmt: skip
    if kind == "chat.completion":
        content["usage"] = _USAGE
    return json.dumps(content).encode()


def whole(body: bytes) -> bytes:
    """A response with a length."""
    head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
    return head % len(body) + body


def chunk(data: bytes) -> bytes:
    """A piece of a chunked body."""
    return b"%x\r\n%b\r\n" % (len(data), data)


ANSWER = whole(completion("chat.completion", {"message": {"role": "assistant", "content": "yes"}}))
MODELS = whole(b'{"object": "list", "data": [{"id": "tiny", "object": "model"}]}')
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
ROLE = chunk(
    b"data: "
    + completion("chat.completion.chunk", {"delta": {"role": "assistant", "content": ""}})
    + b"\n\n"
)
TOKEN = chunk(
    b"data: " + completion("chat.completion.chunk", {"delta": {"content": "tok "}}) + b"\n\n"
)
LAST = chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n"


class Upstream(asyncio.Protocol):
    """One connection."""

    def __init__(self) -> None:
        self._data = bytearray()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """It is open."""
        self._transport: asyncio.Transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        """Bytes came."""
        self._data += data
        while (end := self._data.find(b"\r\n\r\n")) >= 0:
            head = bytes(self._data[:end]).lower()
            if b"transfer-encoding: chunked" in head:
                if not self._data.endswith(b"0\r\n\r\n"):
                    return
                total = len(self._data)
            else:
                start = head.find(b"content-length:")
                length = int(head[start + 15 :].split(b"\r\n", 1)[0]) if start >= 0 else 0
                total = end + 4 + length
            if len(self._data) < total:
                return
            body = bytes(self._data[end + 4 : total])
            del self._data[:total]
            self._answer(head, body)

    def _answer(self, head: bytes, body: bytes) -> None:
        # Some proxies write requests anew, with `stream` anywhere; none streams with a picture here.
        window = body if len(body) < 8192 else b""
        if head.startswith(b"get"):
            self._transport.write(MODELS if b"models" in head.split(b"\r\n", 1)[0] else ANSWER)
        elif b'"stream":true' in window.replace(b" ", b""):
            self._transport.write(HEAD + ROLE + TOKEN)
            self._tick(TOKENS)
        else:
            self._transport.write(ANSWER)

    def _tick(self, left: int) -> None:
        if self._transport.is_closing():
            return
        if left == 0:
            self._transport.write(LAST)
            return
        self._transport.write(TOKEN)
        asyncio.get_running_loop().call_later(INTERVAL_S, self._tick, left - 1)


async def _run(port: int) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Upstream, "127.0.0.1", port, backlog=4096)
    await server.serve_forever()


def main() -> None:
    """Serve until killed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--core", type=int)
    args = parser.parse_args()
    pin(args.core)
    uvloop.run(_run(args.port))


if __name__ == "__main__":
    main()
