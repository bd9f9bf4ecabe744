"""What users of other gateways complain of, where no other test shows that it holds here.

docs/reliability.md has the whole list.
"""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import closing

import pytest
from prometheus_client.parser import text_string_to_metric_families
from redis import Redis

from service.gateway import models
from service.registry import Registry, WorkerState
from service.settings import Settings
from tests.integration.conftest import entry
from tests.support.http import Reply, call, chat
from tests.support.servers import gateway_within

CHAT = "/v1/chat/completions"


@pytest.fixture
def roomy(settings: Settings, redis: Redis, fake_engine: str) -> Iterator[str]:
    """URL of a gateway with the default limit on bodies."""
    Registry(redis).put_model(entry("tiny"))
    Registry(redis).put_worker(WorkerState(id="w1", model="tiny", url=fake_engine, status="ready"))
    default = Settings.model_fields["max_body_bytes"].default
    with gateway_within(settings.model_copy(update={"max_body_bytes": default})):
        yield settings.gateway_url


def test_a_body_of_many_megabytes_reaches_the_engine(roomy: str, fake_engine: str) -> None:
    picture = "data:image/png;base64," + "A" * 4
    body = chat("x" * (8 * 2**20))
    body["metadata"] = {"unknown": picture}
    assert call("POST", roomy + CHAT, body).status == 200
    assert call("GET", f"{fake_engine}/last").json()["messages"] == body["messages"]


def test_metrics_borrow_no_name_of_the_engines(roomy: str) -> None:
    text = call("GET", f"{roomy}/metrics").body.decode()
    names = [family.name for family in text_string_to_metric_families(text)]
    assert names
    assert [name for name in names if not name.startswith("infoprune_")] == []


def test_a_scrape_holds_up_no_request(roomy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A scrape that takes for ever does not end before the requests that came after it."""
    begun, may_end = threading.Event(), threading.Event()
    replies: list[Reply] = []

    def endless(*_: object) -> bytes:
        begun.set()
        assert may_end.wait(60)
        return b""

    monkeypatch.setattr(models, "exposition", endless)
    scrape = threading.Thread(target=lambda: replies.append(call("GET", f"{roomy}/metrics")))
    scrape.start()
    try:
        assert begun.wait(30)
        assert [call("POST", roomy + CHAT, chat()).status for _ in range(5)] == [200] * 5
        assert replies == []
    finally:
        may_end.set()
        scrape.join()
    assert [reply.status for reply in replies] == [200]


def test_a_thousand_streams_at_one_time_end_well(
    start_gateway: Callable[..., None], engines: list[str], settings: Settings
) -> None:
    """production-stack's router died of it (#448)."""
    start_gateway(worker_max_in_flight=1000, request_timeout_s=90.0, probe_timeout_s=60.0)
    data = json.dumps(chat(stream=True)).encode()
    head = f"POST {CHAT} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n"
    head += f"content-length: {len(data)}\r\n\r\n"
    ended = []

    def read(client: socket.socket) -> None:
        with closing(client):
            received = b""
            while part := client.recv(65536):
                received += part
            ended.append(received.endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n"))

    clients = [
        socket.create_connection(("127.0.0.1", settings.port), timeout=90) for _ in range(1000)
    ]
    for client in clients:
        client.sendall(head.encode() + data)
    threads = [threading.Thread(target=read, args=(client,)) for client in clients]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert ended == [True] * 1000
