"""What a gateway tells of itself: ids of requests, access lines, metrics, scrape targets, traces."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families
from redis import Redis

from service.jobs.queue import JobQueue
from service.jobs.records import FINAL
from service.jobs.runner import original_entry
from service.registry import Registry, WorkerState
from service.rollout.records import Alias, By, Shadow, Target
from service.rollout.store import RolloutStore
from service.settings import Settings
from service.telemetry.catalogue import CATALOGUE
from tests.integration.conftest import entry
from tests.support.http import Reply, call, chat
from tests.support.otlp import Receiver, otlp_receiver
from tests.support.random_vlm import write_random_llava
from tests.support.servers import gateway_within, running, wait_until

CHAT = "/v1/chat/completions"
TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
CONTEXT = {"traceparent": f"00-{TRACE}-{PARENT}-01"}


def ask(gateway: str, headers: dict[str, str] | None = None, **fields: Any) -> Reply:
    return call("POST", gateway + CHAT, chat(**fields), headers)


def heard(engine: str, request: str) -> list[dict[str, Any]]:
    """What the engine got under a request's id."""
    got = call("GET", f"{engine}/heard").json()
    return [g for g in got if g["headers"].get("x-request-id") == request]


def metrics(gateway: str) -> dict[str, list[tuple[dict[str, str], float]]]:
    """Samples of a scrape by name."""
    text = call("GET", f"{gateway}/metrics").body.decode()
    found: dict[str, list[tuple[dict[str, str], float]]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found.setdefault(sample.name, []).append((sample.labels, sample.value))
    return found


def test_a_clients_request_id_reaches_the_engine_and_comes_back(
    gateway: str, fake_engine: str
) -> None:
    reply = ask(gateway, {"x-request-id": "mine-1"})
    assert (reply.status, reply.headers["x-request-id"]) == (200, "mine-1")
    assert len(heard(fake_engine, "mine-1")) == 1


def test_without_one_or_with_a_wrong_one_the_gateway_makes_one(
    gateway: str, fake_engine: str
) -> None:
    for headers in ({}, {"x-request-id": 'quo"te'}):
        made = ask(gateway, headers).headers["x-request-id"]
        assert len(made) == 32
        assert len(heard(fake_engine, made)) == 1


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("POST", CHAT, 400),
        ("POST", "/v1/vqa", 400),
        ("GET", "/nowhere", 404),
        ("GET", "/ready", 200),
    ],
)
def test_every_answer_has_an_id(gateway: str, method: str, path: str, status: int) -> None:
    reply = call(method, gateway + path, b"{" if method == "POST" else None, {"x-request-id": "r"})
    assert (reply.status, reply.headers["x-request-id"]) == (status, "r")


def test_a_shadow_copy_has_the_id_of_its_request(
    gateway: str, fake_engine: str, redis: Redis
) -> None:
    registry = Registry(redis)
    registry.put_model(entry("twin"))
    registry.put_worker(WorkerState(id="w3", model="twin", url=fake_engine, status="ready"))
    prod = Alias(
        name="prod", targets=(Target(model="tiny"),), shadow=Shadow(candidate="twin", share=1.0)
    )
    RolloutStore(redis).set_alias("prod", lambda _: prod, By())
    wait_until(lambda: ask(gateway, model="prod").status == 200)

    ask(gateway, {"x-request-id": "copied-1", **CONTEXT}, model="prod", temperature=0)

    wait_until(lambda: len(heard(fake_engine, "copied-1")) == 2)
    assert {got["model"] for got in heard(fake_engine, "copied-1")} == {"tiny", "twin"}


def test_each_request_is_one_line_of_the_log(
    gateway: str, capfd: pytest.CaptureFixture[str]
) -> None:
    ask(gateway, {"x-request-id": "told-1"})
    ask(gateway, {"x-request-id": "told-2"}, model="asleep")
    call("GET", f"{gateway}/health", None, {"x-request-id": "told-3"})
    seen: list[str] = []

    def both() -> bool:
        seen.extend(line for line in capfd.readouterr().out.splitlines() if "told-" in line)
        return len(seen) >= 2

    wait_until(both)
    answered, failed = map(json.loads, seen)
    assert answered.items() >= {
        "event": "request", "level": "info", "request_id": "told-1", "method": "POST", "path": CHAT,
        "status": 200, "model": "tiny", "variant": "original", "worker": "w1", "attempts": 1,
        "prompt_tokens": 90, "completion_tokens": 2,
    }.items()  # fmt: skip
    assert 0 < answered["latency_s"] < 10
    assert (failed["request_id"], failed["status"]) == ("told-2", 503)
    assert failed["error"] == "model_not_ready"


def test_a_stream_tells_its_time_per_token_and_its_wait(gateway: str) -> None:
    ask(gateway, stream=True)
    found = metrics(gateway)
    labels = {"model": "tiny", "variant": "original"}
    assert (labels, 1.0) in found["infoprune_request_time_per_output_token_seconds_count"]
    assert (labels, 1.0) in found["infoprune_request_queue_time_seconds_count"]
    ((_, seconds),) = found["infoprune_request_time_per_output_token_seconds_sum"]
    assert 0.005 < seconds < 10, "the fake waits 10 ms between two tokens"


def test_a_scrape_has_the_catalogues_metrics_and_says_that_redis_is_there(gateway: str) -> None:
    ask(gateway)
    found = metrics(gateway)
    assert found["infoprune_store_reachable"] == [({}, 1.0)]
    ((build, one),) = found["infoprune_build_info"]
    assert set(build) == {"version", "python"}
    assert one == 1
    suffixes = ("", "_total", "_bucket", "_count", "_sum", "_created")
    known = {spec.name + suffix for spec in CATALOGUE for suffix in suffixes}
    assert set(found) <= known


def test_prometheus_finds_the_engines_that_are_ready(gateway: str, fake_engine: str) -> None:
    reply = call("GET", f"{gateway}/metrics/targets")
    assert reply.headers["content-type"].startswith("application/json")
    labels = {"model": "tiny", "variant": "original", "worker": "w1"}
    assert reply.json() == [{"targets": [fake_engine.removeprefix("http://")], "labels": labels}]


@pytest.fixture
def collector() -> Iterator[Receiver]:
    with otlp_receiver() as receiver:
        yield receiver


def test_a_traced_request_arrives_as_spans_and_the_engines_would_follow(
    settings: Settings, redis: Redis, fake_engine: str, collector: Receiver
) -> None:
    registry = Registry(redis)
    registry.put_model(entry("tiny"))
    registry.put_worker(WorkerState(id="w1", model="tiny", url=fake_engine, status="ready"))
    traced = settings.model_copy(update={"otlp_endpoint": collector.url})
    with gateway_within(traced):
        headers = {"x-request-id": "traced-1", "authorization": "Bearer sk-secret", **CONTEXT}
        assert ask(traced.gateway_url, headers, text="my very own question").status == 200
        call("GET", f"{traced.gateway_url}/health")

    server, attempt = sorted(collector.spans, key=lambda span: span.parent != PARENT)
    assert (server.service, server.name) == ("infoprune-gateway", "chat tiny")
    assert (server.trace, server.parent) == (TRACE, PARENT)
    assert (attempt.trace, attempt.parent) == (TRACE, server.span)
    assert server.attributes["gen_ai.usage.input_tokens"] == 90
    assert server.attributes["infoprune.request.id"] == "traced-1"
    assert attempt.attributes["server.port"] == int(fake_engine.rpartition(":")[2])
    (got,) = heard(fake_engine, "traced-1")
    assert got["headers"]["traceparent"].startswith(f"00-{TRACE}-{attempt.span}-")
    sent = b"".join(collector.bodies)
    assert b"my very own question" not in sent
    assert b"sk-secret" not in sent


def test_a_job_is_in_the_trace_of_the_request_that_submitted_it(
    settings: Settings, redis: Redis, tmp_path: Path, collector: Receiver
) -> None:
    write_random_llava(tmp_path / "tiny", kv_heads=4)
    Registry(redis).put_model(original_entry("tiny", tmp_path / "tiny"))
    traced = settings.model_copy(update={"otlp_endpoint": collector.url})
    recipe = {
        "flops": 0.5, "calibration": {"samples": 16}, "evaluation": {"samples": 8}, "round_to": 4,
    }  # fmt: skip
    environment = traced.to_environment(traced.require_redis_url())
    queue = JobQueue(redis, job_timeout_s=600)
    with (
        gateway_within(traced),
        running("service.jobs", log=tmp_path / "jobs.log", env=environment),
    ):
        body = {"model": "tiny", "recipe": recipe}
        job = call("POST", f"{traced.gateway_url}/compress", body, CONTEXT).json()
        wait_until(lambda: queue.get(job["id"]).status in FINAL, timeout_s=110)
        wait_until(lambda: bool(collector.named("compress")))
        done = ({"stage": "calibrate"}, 1.0)  # the gateway reads records twice a second
        name = "infoprune_job_stage_duration_seconds_count"
        wait_until(lambda: done in metrics(traced.gateway_url)[name])

    record = queue.get(job["id"])
    assert record.status == "finished", record.error
    assert {"calibrate", "prune", "evaluate"} <= record.stages.keys()
    (submitted,) = collector.named("POST /compress")
    (whole,) = collector.named("compress")
    assert (whole.service, whole.trace, whole.parent) == ("infoprune-job", TRACE, submitted.span)
    assert whole.attributes["infoprune.job.id"] == job["id"]
    assert whole.attributes["infoprune.job.status"] == "finished"
    parts = {span.name for span in collector.spans if span.parent == whole.span}
    assert {"calibrate", "score", "prune", "evaluate", "export"} <= parts
    written = (tmp_path / "jobs.log").read_text()
    lines = [json.loads(line) for line in written.splitlines() if '"job finished"' in line]
    assert [line["trace_id"] for line in lines] == [TRACE]
