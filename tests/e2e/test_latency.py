"""A latency target, end to end: layers timed in real vLLM, a plan by their times."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from compressor.checkpoint import verify
from tests.support.random_vlm import write_random_vlm

ROOT = Path(__file__).resolve().parents[2]
SHARE = 0.99  # of a request of a tiny model nearly all is the engine's


def infoprune(cache: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "service.cli", *arguments],
        cwd=ROOT, env={**os.environ, "INFOPRUNE_CACHE_DIR": str(cache)},
        capture_output=True, text=True, timeout=580, check=False,
    )  # fmt: skip


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models") / "tiny"
    write_random_vlm(path, "siglip-qwen2")
    return path


@pytest.fixture(scope="module")
def compressed(model: Path) -> Path:
    """Compressed without a table, so that the compression measures."""
    out = model.parent / "out"
    sections = "calibration: {samples: 16}, evaluation: {samples: 0}"
    recipe = f"{{latency: {SHARE}, {sections}}}"
    done = infoprune(model.parent / "cache", "compress", str(model), "-r", recipe, "-o", str(out))
    assert done.returncode == 0, done.stdout + done.stderr
    return out


@pytest.fixture(scope="module")
def table(compressed: Path, model: Path) -> Any:
    """What the command shows of the table that the compression left."""
    found = sorted((model.parent / "cache" / "latency").glob("*.json"))
    assert len(found) == 1
    written = found[0].stat().st_mtime_ns
    done = infoprune(model.parent / "cache", "latency", str(model), "--json")
    assert done.returncode == 0, done.stderr
    assert found[0].stat().st_mtime_ns == written, "it was measured twice"
    return json.loads(done.stdout)


def test_every_layer_and_phase_takes_time(table: Any) -> None:
    for name in ("vision", "language"):
        tower = table["towers"][name]
        curves = [tower["attention"], tower["ffn_width"], *tower["ffn_rank"].values()]
        times = [seconds for curve in curves for seconds in curve["seconds"]]
        assert all(seconds["prefill_s"] > 0 for seconds in times)
        assert all((seconds["decode_s"] > 0) == (name == "language") for seconds in times)
    projector = table["towers"]["projector"]["ffn_rank"]
    assert all(s["prefill_s"] > 0 for curve in projector.values() for s in curve["seconds"])
    assert table["rest"]["prefill_s"] > 0
    assert table["rest"]["decode_s"] > 0


def test_more_heads_take_longer(table: Any) -> None:
    seconds = table["towers"]["vision"]["attention"]["seconds"]
    assert seconds[-1]["prefill_s"] > seconds[0]["prefill_s"]


def test_the_plan_keeps_its_share_of_the_measured_time(compressed: Path) -> None:
    verify(compressed)
    plan = json.loads((compressed / "plan.json").read_text())
    report = json.loads((compressed / "report.json").read_text())

    assert plan["target"] == "latency"
    assert plan["planned"] <= SHARE
    planned = report["compressed"]["latency_s"] / report["original"]["latency_s"]
    assert planned == pytest.approx(plan["planned"], abs=1e-5)
