"""`infoprune compress` and `infoprune report`, as a user types them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from service.cli import app
from service.settings import Settings
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
    for shown in (
        "bytes of weights", "accuracy, easy-vqa", "latency of a request, ms", "Latency: one request",
        "Cost of this run:", "peak memory",
    ):  # fmt: skip
        assert shown in done.stdout
    assert "all, 100 %" in done.stderr, "the whole, beside each stage"

    assert infoprune("report", out).stdout.strip() == str(out / "report" / "index.html")
    data = json.loads(infoprune("report", out, "--json").stdout)
    assert data["recipe"]["flops"] == 0.5


def test_a_wrong_setting_is_told_before_anything_is_computed(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INFOPRUNE_PORT", "abc")
    found = infoprune("compress", model, "--recipe", RECIPE, "--out", tmp_path / "out")
    assert found.exit_code == 1
    assert "The setting PORT is wrong" in found.stderr.splitlines()[-1]
    assert list(tmp_path.iterdir()) == []


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


def test_a_model_that_a_job_made_is_found_by_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INFOPRUNE_RUN_DIR", str(tmp_path))
    page = Settings().models_dir / "tiny-half" / "report" / "index.html"
    page.parent.mkdir(parents=True)
    page.write_text("")
    (page.parents[1] / "config.json").write_text("{}")
    assert infoprune("report", "tiny-half").stdout.strip() == str(page)


def test_a_model_that_is_there_is_replaced_only_when_asked(model: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "thesis.txt").write_text("precious")
    command = ("compress", model, "--recipe", RECIPE, "--out")
    for place, flags in ((out, ()), (out, ("--dry-run",)), (model, ())):
        found = infoprune(*command, place, *flags)
        assert found.exit_code == 1
        assert f"'{place}' exists; choose another --out" in " ".join(found.stderr.split())
    found = infoprune(*command, out, "--overwrite")
    assert found.exit_code == 1
    assert "not a model that infoprune compressed" in " ".join(found.stderr.split())
    assert [p.name for p in tmp_path.iterdir()] == ["out"], "nothing was begun"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("canary", "prod", "b", "--percent", "150"), "less than or equal to 100"),
        (("shadow", "prod", "b", "--share", "25"), "less than or equal to 1"),
        (("canary", "prod", "b", "--rule", "min_agreemnt=0.9"), "There is no rule 'min_agreemnt'"),
        (("canary", "prod", "b", "--rule", "min_agreement=high"), "write KEY=NUMBER"),
    ],
)
def test_a_wrong_option_of_a_roll_out_is_told_without_asking_the_gateway(
    arguments: tuple[str, ...], words: str
) -> None:
    found = infoprune("alias", *arguments, "--url", "http://127.0.0.1:1")
    assert found.exit_code != 0
    assert words in " ".join(found.stderr.split())
