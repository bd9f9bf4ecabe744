"""A fake of the Hugging Face hub: one model's files over HTTP, and which of them were asked for."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

COMMIT = "5" * 40


@dataclass
class Hub:
    """One repository, of one commit."""

    repository: str
    directory: Path
    url: str = ""
    fetched: set[str] = field(default_factory=set)


@contextmanager
def hub_within(repository: str, directory: Path) -> Iterator[Hub]:
    """Serve a directory as a hub's model until the block ends."""
    hub = Hub(repository, directory)
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Handler, hub))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        hub.url = f"http://127.0.0.1:{server.server_port}"
        yield hub
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def __init__(self, hub: Hub, *given: Any) -> None:
        self._hub = hub
        super().__init__(*given)

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def log_message(self, *_: object) -> None:
        """A test's output is no place for it."""

    def _answer(self, *, body: bool) -> None:
        hub, path = self._hub, self.path.split("?")[0]
        api, files = f"/api/models/{hub.repository}/", f"/{hub.repository}/resolve/{COMMIT}/"
        if path in {f"{api}revision/main", f"{api}revision/{COMMIT}"}:
            self._send(200, json.dumps({"id": hub.repository, "sha": COMMIT}).encode(), body=body)
        elif path == f"{api}tree/{COMMIT}":
            entries = [_entry(p) for p in hub.directory.iterdir()]
            self._send(200, json.dumps(entries).encode(), body=body)
        elif path.startswith(files):
            name = path.removeprefix(files)
            hub.fetched.add(name)
            self._send(200, (hub.directory / name).read_bytes(), body=body)
        else:
            code = "RevisionNotFound" if path.startswith(api) else "RepoNotFound"
            self._send(404, b"{}", body=body, error=code)

    def _send(self, status: int, content: bytes, *, body: bool, error: str = "") -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
        if error:
            self.send_header("X-Error-Code", error)
        self.end_headers()
        if body:
            self.wfile.write(content)


def _entry(path: Path) -> dict[str, object]:
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return {"type": "file", "path": path.name, "size": path.stat().st_size, "oid": digest}
