"""The main job, end to end: what `make demo ONCE=1` runs, with the bundled model and real vLLM."""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from service.workers.manager import free_port
from tests.conftest import FACTOR
from tests.support.prometheus import (
    PanelQuery,
    Prometheus,
    last_scrape,
    panel_queries,
    prometheus,
    with_variables,
)

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.timeout(1800 * FACTOR)  # the first test waits for the whole demo

# What `make demo` does not do: it makes no alias, does not stream, has no failures, and may have no
# GPU. Its accuracies are known as it ends, too late for a scrape with `--once`.
# tests/integration/test_dashboards.py asks for all of it.
ABSENT = (
    "infoprune_alias_", "infoprune_canary_", "infoprune_compared_", "infoprune_shadow_",
    "infoprune_time_to_first_token_", "infoprune_request_time_per_output_token_",
    "infoprune_accuracy_", "infoprune_errors_", "infoprune_refused_", "infoprune_retries_",
    "infoprune_worker_ejections_", "infoprune_breaker_openings_", "infoprune_worker_gpu_",
)  # fmt: skip
SHOWN = [q for q in panel_queries() if not any(metric in q.expr for metric in ABSENT)]


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
def finished(
    port: int, beside: Prometheus | None, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """The run's directory and the demo's process, which has ended."""
    del beside
    run_dir = tmp_path_factory.mktemp("demo")
    command = [sys.executable, "-m", "service.cli", "demo", "--once", "--samples", "200"]
    environment = os.environ | {
        "PORT": str(port),
        "INFOPRUNE_RUN_DIR": str(run_dir),
        "INFOPRUNE_WORKER_START_TIMEOUT_S": str(600 * FACTOR),
    }
    process = subprocess.run(
        command,
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=1700 * FACTOR,
        check=False,
    )
    return run_dir, process


@pytest.fixture
def report(finished: tuple[Path, subprocess.CompletedProcess[str]]) -> dict[str, Any]:
    run_dir, process = finished
    assert process.returncode == 0, process.stdout + process.stderr
    return dict(json.loads((run_dir / "report.json").read_text()))


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


@pytest.mark.parametrize("query", SHOWN, ids=str)
def test_a_panel_shows_the_demo(
    report: dict[str, Any], beside: Prometheus | None, query: PanelQuery
) -> None:
    if beside is None:
        pytest.skip("prometheus is not installed; `apt-get install prometheus` brings it.")
    names = {side: report[side]["model"] for side in ("original", "compressed")}
    others = {"model": ".+", "alias": ".+", "__range": "30m", "__rate_interval": "5m"}
    assert beside.finite(with_variables(query.expr, names | others), at=last_scrape(beside))


def test_nothing_outlives_the_demo(
    finished: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    run_dir, _ = finished
    survivors = [
        process.info["cmdline"]
        for process in psutil.process_iter(["cmdline", "environ"])
        if str(run_dir) in str(process.info["cmdline"])
        or (process.info["environ"] or {}).get("INFOPRUNE_RUN_DIR") == str(run_dir)
    ]
    assert survivors == []
