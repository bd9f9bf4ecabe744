"""What `infoprune evaluate` refuses, before it asks anything."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from service.cli import app

URL = ["--endpoint", "http://127.0.0.1:9"]


def evaluate(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["evaluate", *arguments])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "There is no model to evaluate"),
        (["a", "b", "c"], "At most two models"),
        (["a", "./a"], "The two models are the same one"),
        (["a", "--model", "m"], "belong to an --endpoint"),
        (URL, "There is no model to evaluate"),
        ([*URL, "--model", "m", "--model", "m"], "The two models are the same one"),
        (["a", *URL, "--model", "m"], "either model directories or an --endpoint"),
        (["--endpoint", "localhost:80", "--model", "m"], "'localhost:80' is no URL"),
        ([*URL, "--model", "m", "--api-key-env", "NO_SUCH_KEY"], "NO_SUCH_KEY, for the key, is"),
        ([*URL, "--model", "m", "--dataset", "vqa-v3"], "known: easy-vqa, drawn-text"),
        ([*URL, "--model", "m", "--dataset", "gqa:nowhere"], "There is no file"),
        (["nowhere"], "nowhere"),
    ],
)
def test_a_mistake_gets_one_sentence(tmp_path: Path, arguments: list[str], message: str) -> None:
    out = tmp_path / "report.json"
    result = evaluate(*arguments, "--out", str(out))
    assert result.exit_code == 1
    assert message in result.stderr
    assert result.stderr.startswith("infoprune: ")
    assert result.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_a_report_is_a_file(tmp_path: Path) -> None:
    result = evaluate(*URL, "--model", "m", "--out", str(tmp_path))
    assert (result.exit_code, "is a directory" in result.stderr) == (1, True)


def test_an_endpoint_that_is_down_is_named_when_it_is_given_up(tmp_path: Path) -> None:
    out = str(tmp_path / "report.json")
    result = evaluate(*URL, "--model", "m", "--attempts", "1", "--samples", "2", "--out", out)
    assert result.exit_code == 1
    sentence = "http://127.0.0.1:9/v1 gave no answer in 1 attempts (the connection failed)"
    assert sentence in result.stderr
