"""Spans of requests and jobs, by an exporter in memory."""

from __future__ import annotations

import builtins
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from service.errors import UpstreamError
from service.gateway.ask import CHAT, Ask
from service.gateway.origin import Origin
from service.gateway.pool import Slot
from service.gateway.sse import Usage
from service.gateway.trail import Trail
from service.jobs.stages import JobSpans
from service.routing.aliases import Choice
from service.settings import Settings
from service.telemetry.otel import Tracing
from service.telemetry.tracing import open_tracing, traces_endpoint
from tests.support.measured import job
from tests.support.registry import model

CLIENT = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = f"00-{CLIENT}-00f067aa0ba902b7-01"
SECRETS = ("sk-secret", "what is this?", "data:image")


class Traced:
    """Tracing whose spans can be looked at."""

    def __init__(self) -> None:
        self.exporter = InMemorySpanExporter()
        self.tracing = Tracing(self.exporter, "test")

    def spans(self) -> dict[str, ReadableSpan]:
        """All that ended, by name."""
        self.tracing.close()
        return {span.name: span for span in self.exporter.get_finished_spans()}


@pytest.fixture
def traced() -> Traced:
    return Traced()


async def _send(_: Any) -> None:
    return None


def trail(
    traced: Traced | None, headers: Mapping[bytes, bytes] | None = None, path: str = CHAT
) -> Trail:
    scope: dict[str, Any] = {"type": "http", "method": "POST", "path": path}
    sent = {b"authorization": b"Bearer sk-secret", **(headers or {})}
    return Trail(scope, sent, _send, None if traced is None else traced.tracing)


def answer(found: Trail, slots: list[Slot]) -> None:
    """Ask workers until the last, which answers."""
    body = b'{"messages": [{"role": "user", "content": "what is this?"}]}'
    found.chosen(
        Ask(CHAT, "prod", stream=True, usage_asked=False, user="jo", body=body),
        Choice(model("small", variant="compressed"), "prod"),
    )
    for slot in slots[:-1]:
        with pytest.raises(UpstreamError), found.attempt(slot):
            raise UpstreamError("small")
    with found.attempt(slots[-1]):
        pass
    found.usage, found.first_token_s, found.status = Usage(90, 2), 0.25, 200
    found.close(None)


def slot(number: int) -> Slot:
    return Slot(f"w{number}", "small", Origin(f"http://10.0.0.{number}:8000"), lambda _: None)


def test_a_request_is_a_server_span_in_the_clients_trace(traced: Traced) -> None:
    answer(trail(traced, {b"traceparent": PARENT.encode()}), [slot(1)])
    span = traced.spans()["chat prod"]
    assert span.kind is SpanKind.SERVER
    assert span.context is not None
    assert f"{span.context.trace_id:032x}" == CLIENT
    assert span.parent is not None
    assert span.attributes is not None
    assert (
        dict(span.attributes).items()
        >= {
            "http.request.method": "POST",
            "http.route": CHAT,
            "http.response.status_code": 200,
            "gen_ai.operation.name": "chat",
            "gen_ai.request.model": "prod",
            "gen_ai.response.model": "small",
            "gen_ai.usage.input_tokens": 90,
            "gen_ai.usage.output_tokens": 2,
            "gen_ai.response.time_to_first_chunk": 0.25,
            "infoprune.variant": "compressed",
        }.items()
    )


def test_each_attempt_at_a_worker_is_a_span_below_it(traced: Traced) -> None:
    answer(trail(traced), [slot(1), slot(2)])
    spans = traced.exporter
    traced.tracing.close()
    failed, answered, server = spans.get_finished_spans()
    assert server.context is not None
    for span, worker in ((failed, 1), (answered, 2)):
        assert (span.name, span.kind) == ("chat small", SpanKind.CLIENT)
        assert span.parent is not None
        assert span.parent.span_id == server.context.span_id
        assert span.attributes is not None
        assert span.attributes["server.address"] == f"10.0.0.{worker}"
        assert span.attributes["server.port"] == 8000
    assert failed.status.status_code is StatusCode.ERROR
    assert failed.attributes is not None
    assert failed.attributes["error.type"] == UpstreamError.code
    assert answered.status.status_code is StatusCode.UNSET


def test_the_worker_is_told_which_attempt_its_span_belongs_to(traced: Traced) -> None:
    found = trail(traced)
    found.chosen(Ask(CHAT, "a", False, False, None, b"{}"), Choice(model("a")))
    with found.attempt(slot(1)):
        told = found.worker_headers.decode()
    found.close(None)
    traced.tracing.close()
    attempt, _ = traced.exporter.get_finished_spans()
    assert attempt.kind is SpanKind.CLIENT
    assert attempt.context is not None
    assert f"x-request-id: {found.id}\r\n" in told
    assert f"-{attempt.context.span_id:016x}-0" in told


def test_nothing_of_what_was_asked_or_of_the_key_is_in_a_span(traced: Traced) -> None:
    answer(trail(traced), [slot(1), slot(2)])
    traced.tracing.close()
    for span in traced.exporter.get_finished_spans():
        written = span.to_json()
        assert not [secret for secret in SECRETS if secret in written]


def test_a_request_that_failed_says_why(traced: Traced) -> None:
    found = trail(traced)
    found.status, found.error = 503, "overloaded"
    found.close(None, "/v1/chat/completions")
    span = traced.spans()["POST /v1/chat/completions"]
    assert span.status.status_code is StatusCode.ERROR
    assert span.attributes is not None
    assert span.attributes["error.type"] == "overloaded"


def test_what_is_polled_is_not_traced(traced: Traced) -> None:
    trail(traced, path="/metrics").close(None)
    assert traced.spans() == {}


def test_without_tracing_the_clients_context_goes_to_the_worker_as_it_is() -> None:
    found = trail(None, {b"traceparent": PARENT.encode(), b"x-request-id": b"r1"})
    assert found.worker_headers == f"x-request-id: r1\r\ntraceparent: {PARENT}\r\n".encode()
    assert found.traceparent is None


def ticking(*times_s: float) -> Callable[[], int]:
    values = iter(times_s)
    return lambda: int(next(values) * 1e9)


def test_a_job_is_a_span_in_the_trace_of_who_submitted_it_with_one_for_each_stage(
    traced: Traced,
) -> None:
    spans = JobSpans(
        traced.tracing, job(traceparent=PARENT, attempt=2), ticking(10, 10, 14, 15, 20, 21)
    )
    for stage, share in (
        ("calibrate", 0.0), ("calibrate", 1.0), ("score", 0.5), ("export", 0.0), ("export", 1.0),
    ):  # fmt: skip
        spans.heard(stage, share)
    spans.end("finished")

    found = traced.spans()
    whole = found.pop("compress")
    assert whole.context is not None
    assert f"{whole.context.trace_id:032x}" == CLIENT
    assert whole.attributes is not None
    assert whole.attributes["infoprune.job.attempt"] == 2
    assert set(found) == {"calibrate", "score", "export"}
    assert all(s.parent and s.parent.span_id == whole.context.span_id for s in found.values())
    calibrate, score = found["calibrate"], found["score"]
    assert (calibrate.start_time, calibrate.end_time) == (10 * 10**9, 14 * 10**9)
    assert (score.start_time, score.end_time) == (14 * 10**9, 20 * 10**9)


def test_a_failed_job_is_a_failed_span(traced: Traced) -> None:
    JobSpans(traced.tracing, job()).end("failed")
    assert traced.spans()["compress"].status.status_code is StatusCode.ERROR


@pytest.mark.parametrize("name", ["INFOPRUNE_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"])
def test_the_standard_variable_or_ours_turns_it_on(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    assert traces_endpoint(Settings()) is None
    assert open_tracing(Settings(), "x") is None
    monkeypatch.setenv(name, "http://collector:4318/")
    assert traces_endpoint(Settings()) == "http://collector:4318/v1/traces"
    monkeypatch.setenv(name, "")
    assert traces_endpoint(Settings()) is None, "as a variable that is not set"


def test_without_the_library_the_service_runs_untraced(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *args: Any, **more: Any) -> Any:
        if name == "service.telemetry.otel":
            raise ImportError(name)
        return real(name, *args, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    assert open_tracing(Settings(otlp_endpoint="http://collector:4318"), "x") is None
