"""The main job, end to end: what `make demo` runs, with the bundled model and real vLLM."""

from __future__ import annotations

import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from service.workers.manager import free_port
from tests.conftest import FACTOR
from tests.support.http import call, chat
from tests.support.otlp import Receiver, otlp_receiver
from tests.support.pictures import about_a_blue_circle
from tests.support.prometheus import (
    PanelQuery,
    Prometheus,
    last_scrape,
    panel_queries,
    prometheus,
    with_variables,
)
from tests.support.servers import wait_until

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.timeout(1800 * FACTOR)  # the first test waits for the whole demo

REQUEST_ID = "one-request-of-the-demo"
JSON = {"content-type": "application/json"}


@pytest.fixture(scope="module")
def port() -> int:
    return free_port()


@pytest.fixture(scope="module")
def beside(port: int, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus | None]:
    """A Prometheus that scrapes the demo and its workers while they run; None where there is none."""
    if shutil.which("prometheus") is None:
        yield None
        return
    with prometheus(tmp_path_factory.mktemp("prometheus"), f"127.0.0.1:{port}") as found:
        yield found


@pytest.fixture(scope="module")
def collector() -> Iterator[Receiver]:
    with otlp_receiver() as receiver:
        yield receiver


@dataclass(frozen=True)
class Run:
    """A demo that has ended."""

    directory: Path
    status: int
    output: str
    whole: float
    """When all workers were there and had been used (Unix, seconds)."""


@pytest.fixture(scope="module")
def finished(
    port: int,
    beside: Prometheus | None,
    collector: Receiver,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Run]:
    """The demo as a person runs it: left up behind its table, used for a while, then interrupted."""
    directory = tmp_path_factory.mktemp("demo")
    output = directory / "output.txt"
    environment = os.environ | {
        "PORT": str(port),
        "INFOPRUNE_RUN_DIR": str(directory / "run"),
        "INFOPRUNE_WORKER_START_TIMEOUT_S": str(600 * FACTOR),
        "INFOPRUNE_OTLP_ENDPOINT": collector.url,
    }
    command = [sys.executable, "-m", "service.cli", "demo", "--samples", "200"]
    with output.open("wb") as out:
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=out, stderr=out)
    report = directory / "run" / "report.json"
    try:
        wait_until(lambda: report.exists() or process.poll() is not None, timeout_s=1600 * FACTOR)
        whole = 0.0
        if report.exists():
            both = json.loads(report.read_text())
            whole = use(
                f"http://127.0.0.1:{port}", *(both[s]["model"] for s in ("original", "compressed"))
            )
        process.send_signal(signal.SIGINT)
        yield Run(directory / "run", process.wait(120 * FACTOR), output.read_text(), whole)
    finally:
        process.kill()


def use(gateway: str, original: str, compressed: str) -> float:
    """What there is to see: a canary and a shadow with traffic, what is refused, a worker that dies.

    Returns the time (Unix, seconds) just before it dies.
    """
    for alias in ("prod", "beside"):
        targets = {"targets": [{"model": original}]}
        assert call("PUT", f"{gateway}/aliases/{alias}", targets, JSON).status == 200
    canary = {"candidate": compressed, "steps": [50, 100], "min_samples": 10**6, "mirror": 1.0}
    shadow = {"candidate": compressed, "share": 1.0}
    assert call("POST", f"{gateway}/aliases/prod/canary", canary, JSON).status == 200
    assert call("POST", f"{gateway}/aliases/beside/shadow", shadow, JSON).status == 200
    chats = f"{gateway}/v1/chat/completions"
    # One that both answer right: a canary whose answers differ is rolled back at once.
    asked: dict[str, Any] = {"messages": about_a_blue_circle(), "temperature": 0, "max_tokens": 4}
    for number in range(30):
        for name in ("prod", "beside", original, compressed):
            for stream in (True, False):
                body = chat(model=name, stream=stream, user=f"u{number}", **asked)
                assert call("POST", chats, body).status == 200
        call("POST", chats, chat(model=original), headers={"origin": "http://elsewhere.example"})
    named = call("POST", chats, chat(model=original, max_tokens=4), {"x-request-id": REQUEST_ID})
    assert named.status == 200
    time.sleep(6)  # the engine sends its spans every five seconds
    whole = time.time()
    for process in psutil.process_iter(["cmdline"]):
        words = process.info["cmdline"] or []
        # Not the guard around it, whose command line ends with the engine's.
        if words[1:3] == ["-m", "vllm.entrypoints.openai.api_server"] and compressed in words:
            process.kill()
    for _ in range(30):  # ten scrapes' time
        call("POST", chats, chat(model=compressed, max_tokens=4))
        time.sleep(0.3)
    return whole


@pytest.fixture
def report(finished: Run) -> dict[str, Any]:
    assert finished.status == 0, finished.output
    return dict(json.loads((finished.directory / "report.json").read_text()))


def test_the_report_compares_both_models(report: dict[str, Any]) -> None:
    for side in (report["original"], report["compressed"]):
        assert set(side["flops"]) == {"vision", "projector", "prefill", "decode_token"}
        assert set(side["latency_s"]) == {"p50", "p95"}
        assert side["throughput_rps"] > 0
        assert set(side["accuracy"]) == {"easy-vqa", "drawn-text", "drawn-scenes"}
        for interval in side["accuracy"].values():
            assert interval["low"] <= interval["value"] <= interval["high"]
            assert interval["n"] == 200


def test_the_budget_is_met_within_two_percent(report: dict[str, Any]) -> None:
    assert report["ratios"]["flops"]["prompt"] == pytest.approx(0.3125, rel=0.02)
    assert report["ratios"]["params"] < 0.5


def test_the_compressed_model_answers_as_well(report: dict[str, Any]) -> None:
    # 600 questions: the bound leaves room for their noise; the README's figure is of 3000.
    means = [
        statistics.mean(each["value"] for each in report[side]["accuracy"].values())
        for side in ("original", "compressed")
    ]
    assert means[0] >= 0.93
    assert means[1] >= means[0] - 0.02


@pytest.mark.parametrize("query", panel_queries(), ids=str)
def test_a_panel_shows_the_demo(
    report: dict[str, Any], finished: Run, beside: Prometheus | None, query: PanelQuery
) -> None:
    if beside is None:
        pytest.skip("prometheus is not installed; `apt-get install prometheus` brings it.")
    names = {side: report[side]["model"] for side in ("original", "compressed")}
    others = {"model": ".+", "alias": ".+", "__range": "30m", "__rate_interval": "5m"}
    expr = with_variables(query.expr, names | others)
    # A dead worker's own figures are gone in the end; that it died is only seen then.
    assert any(beside.finite(expr, at) for at in (finished.whole, last_scrape(beside)))


def test_a_request_is_one_trace_from_the_gateway_to_the_engine(
    report: dict[str, Any], collector: Receiver
) -> None:
    (server,) = [
        span
        for span in collector.spans
        if span.attributes.get("infoprune.request.id") == REQUEST_ID
    ]
    (attempt,) = [span for span in collector.spans if span.parent == server.span]
    engine = [span for span in collector.named("llm_request") if span.parent == attempt.span]
    assert [(span.service, span.trace) for span in engine] == [("infoprune-worker", server.trace)]
    assert report["original"]["model"] in server.name


def test_a_request_s_id_is_found_in_every_log_that_it_came_by(
    report: dict[str, Any], finished: Run
) -> None:
    logs = finished.directory / "logs"
    assert REQUEST_ID in (logs / "gateway.log").read_text()
    assert (
        f"chatcmpl-{REQUEST_ID}" in (logs / f"worker-{report['original']['model']}.log").read_text()
    )


def test_nothing_outlives_the_demo(finished: Run) -> None:
    directory = str(finished.directory)
    survivors = [
        process.info["cmdline"]
        for process in psutil.process_iter(["cmdline", "environ"])
        if directory in str(process.info["cmdline"])
        or (process.info["environ"] or {}).get("INFOPRUNE_RUN_DIR") == directory
    ]
    assert survivors == []
