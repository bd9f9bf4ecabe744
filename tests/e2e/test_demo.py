"""The main job, end to end: what `make demo ONCE=1` runs, with the bundled model and real vLLM."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest

from service.workers.manager import free_port

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def finished(
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """The run's directory and the demo's process, which has ended."""
    run_dir = tmp_path_factory.mktemp("demo")
    command = [sys.executable, "-m", "service.cli", "demo", "--once", "--samples", "200"]
    environment = os.environ | {"PORT": str(free_port()), "INFOPRUNE_RUN_DIR": str(run_dir)}
    process = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=580, check=False
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
        interval = side["accuracy"]["easy-vqa"]
        assert interval["low"] <= interval["value"] <= interval["high"]
        assert interval["n"] == 200


def test_the_budget_is_met_within_two_percent(report: dict[str, Any]) -> None:
    assert report["ratios"]["flops"]["prompt"] == pytest.approx(0.5, rel=0.02)
    assert report["ratios"]["params"] < 0.75


def test_the_compressed_model_answers_as_well(report: dict[str, Any]) -> None:
    # 200 questions: the bound leaves room for their noise; the whole split is in the model's card.
    original, compressed = (
        report[side]["accuracy"]["easy-vqa"]["value"] for side in ("original", "compressed")
    )
    assert original >= 0.95
    assert compressed >= original - 0.02


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
