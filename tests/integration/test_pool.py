"""Two workers behind the gateway, one of which misbehaves. They are named by setting, as URLs."""

from __future__ import annotations

import base64
import io
import json
import signal
import socket
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil
import pytest
from PIL import Image
from prometheus_client.parser import text_string_to_metric_families

from service.settings import Settings
from tests.support.http import call, chat, events
from tests.support.servers import answers, running, wait_until

CHAT = "/v1/chat/completions"


def mode(engine: str, value: str) -> None:
    assert call("POST", f"{engine}/mode", value.encode()).status == 200


def number(engine: str, what: str) -> int:
    return int(call("GET", f"{engine}/{what}").body)


def ask_many(url: str, count: int, **fields: Any) -> list[Any]:
    """So many different questions at a time; replies in order."""
    with ThreadPoolExecutor(8) as pool:
        return list(pool.map(lambda i: call("POST", url, chat(f"{i}?", **fields)), range(count)))


def gauge(url: str, name: str) -> float:
    text = call("GET", f"{url}/metrics").body.decode()
    families = text_string_to_metric_families(text)
    return sum(s.value for f in families for s in f.samples if s.name == name)


@pytest.mark.parametrize(
    "fault", ["inner_error", "saturated", "garbage", "no_json", "trickle", "reset"]
)
@pytest.mark.parametrize("stream", [False, True])
def test_what_one_worker_spoils_the_other_makes_good(
    start_gateway: Callable[..., None],
    engines: list[str],
    settings: Settings,
    fault: str,
    stream: bool,
) -> None:
    start_gateway()
    mode(engines[0], fault)
    replies = ask_many(settings.gateway_url + CHAT, 24, stream=stream)
    assert [reply.status for reply in replies] == [200] * 24
    assert number(engines[0], "seen") > 0, "it was asked"
    if stream:
        assert all(list(events(reply.body))[-1] == "[DONE]" for reply in replies)


def test_a_broken_worker_is_left_alone_and_asked_again_later(
    start_gateway: Callable[..., None], engines: list[str], settings: Settings
) -> None:
    """`/health` stays well all the time: only its answers tell (vllm-router's #158)."""
    start_gateway()
    mode(engines[0], "inner_error")
    ask_many(settings.gateway_url + CHAT, 30)
    before = number(engines[0], "seen")
    ask_many(settings.gateway_url + CHAT, 10)
    assert number(engines[0], "seen") - before <= 2, "trials only"

    mode(engines[0], "ok")

    def back() -> bool:
        ask_many(settings.gateway_url + CHAT, 8)
        return number(engines[0], "seen") > before + 10

    wait_until(back)


def test_saturation_does_not_open_the_breaker(
    start_gateway: Callable[..., None], engines: list[str], settings: Settings
) -> None:
    start_gateway()
    for engine in engines:
        mode(engine, "saturated")
    replies = ask_many(settings.gateway_url + CHAT, 12)
    assert {reply.status for reply in replies} <= {503}
    assert all("retry-after" in reply.headers for reply in replies)
    for engine in engines:
        mode(engine, "ok")
    time.sleep(1.1)  # what the engines' own Retry-After asked for
    assert {reply.status for reply in ask_many(settings.gateway_url + CHAT, 12)} == {200}


def test_a_request_that_fails_everywhere_is_its_own_fault(
    start_gateway: Callable[..., None], engines: list[str], settings: Settings
) -> None:
    start_gateway()
    url = settings.gateway_url + CHAT
    for _ in range(8):
        reply = call("POST", url, chat("poison"))
        assert (reply.status, reply.json()["error"]["message"]) == (500, "CUDA error")
    assert call("POST", url, chat()).status == 200
    assert gauge(settings.gateway_url, "infoprune_trusted_workers") == 2


@pytest.mark.parametrize("fault", ["break", "unended"])
def test_a_stream_that_began_never_ends_in_silence(
    start_gateway: Callable[..., None], engines: list[str], settings: Settings, fault: str
) -> None:
    start_gateway()
    for engine in engines:
        mode(engine, fault)
    reply = call("POST", settings.gateway_url + CHAT, chat(stream=True))
    *_, last = events(reply.body)
    assert reply.status == 200
    assert last["error"]["code"] == "upstream_error"


def test_requests_in_the_hands_of_a_hung_worker_move_to_another(
    start_gateway: Callable[..., None], engines: list[str], settings: Settings
) -> None:
    start_gateway()
    mode(engines[0], "unhealthy")
    replies = ask_many(settings.gateway_url + CHAT, 16)
    assert {reply.status for reply in replies} == {200}
    assert gauge(settings.gateway_url, "infoprune_worker_ejections_total") >= 1
    assert gauge(settings.gateway_url, "infoprune_trusted_workers") == 1


def picture(shade: int) -> str:
    file = io.BytesIO()
    Image.new("RGB", (16, 16), (shade, 0, 0)).save(file, "PNG")
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


def test_an_image_goes_where_it_was_before(
    start_gateway: Callable[..., None], engines: list[str], settings: Settings
) -> None:
    start_gateway()
    for shade in range(8):
        before = [number(engine, "seen") for engine in engines]
        for _ in range(4):
            part = {"type": "image_url", "image_url": {"url": picture(shade)}}
            body = chat()
            body["messages"][0]["content"] = [part, {"type": "text", "text": "red?"}]
            assert call("POST", settings.gateway_url + CHAT, body).status == 200
        grown = [number(engine, "seen") - b for engine, b in zip(engines, before, strict=True)]
        assert sorted(grown) == [0, 4]
    assert all(number(engine, "seen") for engine in engines), "both have some"


@pytest.mark.parametrize("stream", [False, True])
def test_connections_to_a_worker_are_used_again(
    start_gateway: Callable[..., None], engines: list[str], settings: Settings, stream: bool
) -> None:
    start_gateway(workers={"tiny": engines[:1]})
    url = settings.gateway_url + CHAT
    assert call("POST", url, chat(stream=stream)).status == 200
    before = number(engines[0], "connections")
    for _ in range(10):
        assert call("POST", url, chat(stream=stream)).status == 200
    assert number(engines[0], "connections") - before <= 3, "this question itself, and a probe's"


def test_who_finds_the_queue_full_is_told_when_to_come_back(
    start_gateway: Callable[..., None], engines: list[str], settings: Settings
) -> None:
    start_gateway(worker_max_in_flight=1, queue_size=1, workers={"tiny": engines[:1]})
    url = settings.gateway_url + CHAT
    with ThreadPoolExecutor(6) as pool:
        replies = list(pool.map(lambda _: call("POST", url, chat("gently", stream=True)), range(6)))
    statuses = sorted(reply.status for reply in replies)
    assert statuses == [200, 200, 503, 503, 503, 503]
    assert all("retry-after" in r.headers for r in replies if r.status == 503)
    assert gauge(settings.gateway_url, "infoprune_waiting_requests") == 0


def test_a_client_may_ask_for_a_shorter_deadline(
    start_gateway: Callable[..., None], settings: Settings
) -> None:
    start_gateway()
    started = time.monotonic()
    headers = {"x-request-timeout": "0.5"}
    reply = call("POST", settings.gateway_url + CHAT, chat("slowly"), headers)
    assert (reply.status, reply.json()["error"]["code"]) == (504, "upstream_timeout")
    assert time.monotonic() - started < 5


@pytest.mark.parametrize(
    ("phase", "body"),
    [
        ("before the first token", chat("slowly", stream=True)),
        ("streaming", chat("gently", stream=True)),
        ("not streaming", chat("slowly")),
    ],
)
def test_a_client_that_leaves_ends_its_request_in_every_phase(
    start_gateway: Callable[..., None],
    engines: list[str],
    settings: Settings,
    phase: str,
    body: dict[str, Any],
) -> None:
    """The engines' running counts and the gateway's gauges return to zero (LiteLLM's #37140)."""
    start_gateway()
    data = json.dumps(body).encode()
    with closing(socket.create_connection(("127.0.0.1", settings.port))) as client:
        head = f"POST {CHAT} HTTP/1.1\r\nhost: localhost\r\ncontent-length: {len(data)}\r\n\r\n"
        client.sendall(head.encode() + data)
        wait_until(lambda: sum(number(engine, "running") for engine in engines) == 1)
        if phase == "streaming":
            assert client.recv(10)
        assert gauge(settings.gateway_url, "infoprune_in_flight_requests") == 1
    wait_until(lambda: sum(number(engine, "running") for engine in engines) == 0, timeout_s=5)
    wait_until(lambda: gauge(settings.gateway_url, "infoprune_in_flight_requests") == 0)


@pytest.mark.parametrize(("drain_s", "last"), [(15.0, "[DONE]"), (0.5, "shutting_down")])
def test_streams_have_time_to_end_and_are_told_if_it_was_not_enough(
    changed: Callable[..., Settings], tmp_path: Path, drain_s: float, last: str
) -> None:
    settings = changed(drain_timeout_s=drain_s)
    url = settings.gateway_url + CHAT
    environment = settings.to_environment(settings.require_redis_url())
    with (
        ThreadPoolExecutor(1) as pool,
        running("service.gateway", log=tmp_path / "gateway.log", env=environment) as process,
    ):
        wait_until(lambda: answers(settings.port, "/health"))
        reply = pool.submit(call, "POST", url, chat("gently", stream=True))
        wait_until(lambda: gauge(settings.gateway_url, "infoprune_in_flight_requests") == 1)
        time.sleep(0.5)
        (child,) = psutil.Process(process.pid).children()
        child.send_signal(signal.SIGTERM)
        *_, end = events(reply.result().body)
        assert end == last if isinstance(end, str) else end["error"]["code"] == last
        wait_until(lambda: process.poll() is not None)


def test_a_name_stands_for_all_of_its_addresses(
    start_gateway: Callable[..., None], engines: list[str], settings: Settings
) -> None:
    port = urlsplit(engines[0]).port
    start_gateway(workers={"tiny": [f"dns+http://localhost:{port}"]})
    assert call("POST", settings.gateway_url + CHAT, chat()).status == 200
