"""Plain HTTP for tests: status, headers and body, without a client's opinions."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple
from urllib.parse import urlsplit


class Reply(NamedTuple):
    """An answer; headers have small names."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)

    def sentence(self) -> str:
        """The error's message."""
        return str(self.json()["error"]["message"])


def call(
    method: str,
    url: str,
    body: Any = None,
    headers: Mapping[str, str] | None = None,
    timeout_s: float = 30.0,
) -> Reply:
    """One request over a connection of its own; a body that is no bytes is sent as JSON."""
    parts = urlsplit(url)
    assert parts.hostname is not None
    data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
    connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=timeout_s)
    try:
        target = f"{parts.path}?{parts.query}" if parts.query else parts.path
        connection.request(method, target, data, dict(headers or {}))
        response = connection.getresponse()
        found = {name.lower(): value for name, value in response.getheaders()}
        return Reply(response.status, found, response.read())
    finally:
        connection.close()


def events(body: bytes) -> Iterator[Any]:
    """The events of a stream, `[DONE]` as text."""
    for event in body.split(b"\n\n"):
        if event.startswith(b"data: "):
            payload = event[6:]
            yield payload.decode() if payload == b"[DONE]" else json.loads(payload)


def chat(text: str = "red?", *, model: str = "tiny", **fields: Any) -> dict[str, Any]:
    """A chat request."""
    return {"model": model, "messages": [{"role": "user", "content": text}], **fields}
