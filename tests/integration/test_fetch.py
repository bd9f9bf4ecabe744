"""Images by URL, from a server that the settings allow."""

from __future__ import annotations

import base64
import http.server
import threading
import time
from collections.abc import Iterator

import pytest
from redis import Redis

from service.registry import Registry, WorkerState
from service.settings import Settings
from tests.integration.conftest import entry
from tests.integration.test_vqa import picture
from tests.support.http import Reply, call, chat
from tests.support.servers import gateway_within


class Images(http.server.BaseHTTPRequestHandler):
    """A server of pictures and of traps."""

    def do_GET(self) -> None:
        redirects = {
            "/moved": "/red.png",
            "/inside": "http://[::1]:1/secret",
            "/metadata": "http://169.254.169.254/latest/meta-data",
            "/file": "file:///etc/passwd",
            "/circle": "/circle",
        }
        if self.path in redirects:
            self.send_response(302)
            self.send_header("location", redirects[self.path])
            self.end_headers()
            return
        if self.path == "/slow":
            time.sleep(3)
        if self.path == "/none":
            self.send_error(404)
            return
        self.send_response(200)
        self.end_headers()
        content = {"/red.png": picture(), "/page": b"<html>"}.get(self.path, b"x" * 300_000)
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        return


@pytest.fixture
def images() -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Images) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://localhost:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture
def fetching(settings: Settings, redis: Redis, fake_engine: str) -> Iterator[str]:
    """URL of a gateway that may fetch from 127.0.0.1."""
    Registry(redis).put_model(entry("tiny"))
    Registry(redis).put_worker(WorkerState(id="w1", model="tiny", url=fake_engine, status="ready"))
    changed = settings.model_copy(
        update={
            "image_fetch_networks": ("127.0.0.1/32", "::1/128"),
            "image_fetch_timeout_s": 1.0,
            "max_image_bytes": 200_000,
            "request_timeout_s": 20.0,
        }
    )
    # ::1 is allowed as `localhost` may have both; the trap is another port of it, which refuses.
    with gateway_within(changed):
        yield settings.gateway_url


def ask(gateway: str, url: str) -> Reply:
    body = chat()
    part = {"type": "image_url", "image_url": {"url": url, "detail": "low"}}
    body["messages"][0]["content"] = [part, {"type": "text", "text": "red?"}]
    return call("POST", f"{gateway}/v1/chat/completions", body)


@pytest.mark.parametrize("path", ["/red.png", "/moved"])
def test_an_image_is_fetched_and_goes_on_as_a_data_url(
    fetching: str, fake_engine: str, images: str, path: str
) -> None:
    assert ask(fetching, images + path).status == 200
    (part, _) = call("GET", f"{fake_engine}/last").json()["messages"][0]["content"]
    content = base64.b64encode(picture()).decode()
    assert part["image_url"] == {"url": f"data:image/png;base64,{content}", "detail": "low"}


@pytest.mark.parametrize(
    ("path", "sentence"),
    [
        ("/metadata", "leads to an address that is not public"),
        ("/inside", "could not be fetched"),
        ("/file", "leads to an address that is not public"),
        ("/circle", "has more than 3 redirects"),
        ("/slow", "could not be fetched within 1 s"),
        ("/none", "could not be fetched: status 404"),
        ("/huge", "is larger than 200000 bytes"),
        ("/page", "is not a PNG"),
    ],
)
def test_what_is_no_picture_or_lies_behind_a_trap_is_refused(
    fetching: str, images: str, path: str, sentence: str
) -> None:
    reply = ask(fetching, images + path)
    assert reply.status == 400
    assert sentence in reply.sentence()
