"""A fake engine that says "y", and "es" once it is let go: what comes can be looked at in between."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

USAGE = {"prompt_tokens": 9, "completion_tokens": 2, "total_tokens": 11}


class HeldEngine(ThreadingHTTPServer):
    """The server; `asked` counts the chats that it ever had."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Chat)
        self.asked = 0
        self.let_go = threading.Event()
        self.url = f"http://127.0.0.1:{self.server_port}"


class _Chat(BaseHTTPRequestHandler):
    server: HeldEngine

    def do_GET(self) -> None:
        self._begin("text/plain")
        self.wfile.write(b"ok")

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        self.server.asked += 1
        self._begin("text/event-stream")
        self._say([{"index": 0, "delta": {"role": "assistant", "content": "y"}}])
        self.server.let_go.wait()
        self._say([{"index": 0, "delta": {"content": "es"}, "finish_reason": "stop"}])
        self._say([], USAGE)
        self.wfile.write(b"data: [DONE]\n\n")

    def _begin(self, kind: str) -> None:
        self.send_response(200)
        self.send_header("content-type", kind)
        self.end_headers()  # of HTTP/1.0: the body ends with the connection

    def _say(self, choices: list[dict[str, object]], usage: dict[str, int] | None = None) -> None:
        chunk = {"id": "x", "object": "chat.completion.chunk", "created": 1, "model": "x",
                 "choices": choices, "usage": usage}  # fmt: skip
        self.wfile.write(b"data: " + json.dumps(chunk).encode() + b"\n\n")

    def log_message(self, *_: object) -> None:
        """Nothing."""


@contextmanager
def held_engine() -> Iterator[HeldEngine]:
    """One in threads of this process, until the block ends."""
    with HeldEngine() as engine:
        thread = threading.Thread(target=engine.serve_forever)
        thread.start()
        try:
            yield engine
        finally:
            engine.let_go.set()
            engine.shutdown()
            thread.join()
