"""`infoprune compress` and `infoprune report`, as a user types them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from service.cli import app
from tests.support.random_vlm import write_random_llava

RECIPE = "{flops: 0.5, calibration: {samples: 16}, evaluation: {samples: 4}, round_to: 4}"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models") / "tiny"
    write_random_llava(path, kv_heads=4)
    return path


def infoprune(*arguments: object) -> Result:
    return CliRunner(env={"COLUMNS": "200"}).invoke(app, [str(a) for a in arguments])


def test_a_dry_run_prints_the_plan_and_then_the_real_run_its_outcome(
    model: Path, tmp_path: Path
) -> None:
    out = tmp_path / "half"
    command = ("compress", model, "--recipe", RECIPE, "--out", out)

    planned = infoprune(*command, "--dry-run")
    assert planned.exit_code == 0, planned.output
    for shown in ("layout adaptive", "vision", "projector", "language", "of 8", "whole prompt"):
        assert shown in " ".join(planned.stdout.split())
    assert not out.exists()

    done = infoprune(*command)
    assert done.exit_code == 0, done.output
    for shown in ("bytes of weights", "accuracy, easy-vqa", "Cost of this run:", "peak memory"):
        assert shown in done.stdout

    assert infoprune("report", out).stdout.strip() == str(out / "report" / "index.html")
    data = json.loads(infoprune("report", out, "--json").stdout)
    assert data["recipe"]["flops"] == 0.5


def test_json_output_is_json_alone(model: Path, tmp_path: Path) -> None:
    command = ("compress", model, "-r", RECIPE, "-o", tmp_path / "out", "--json")

    plan = json.loads(infoprune(*command, "--dry-run").stdout)
    report = json.loads(infoprune(*command).stdout)

    assert plan["plan"]["planned"] <= 0.5
    assert plan["compressed"]["flops"] == report["compressed"]["flops"]
    assert set(report["spent"]) == {"seconds", "peak_memory_bytes", "peak_device_bytes"}


def test_a_model_without_a_report_is_told_in_one_sentence(model: Path, tmp_path: Path) -> None:
    for place, words in ((model, "has no report/index.html"), (tmp_path / "x", "no model")):
        found = infoprune("report", place)
        assert found.exit_code == 1
        assert words in found.stderr
        assert found.stdout == ""
