"""What `infoprune models` prints of the gateway's answer."""

from __future__ import annotations

from typing import Any

import pytest

from service.command import print_table
from service.models_cli import model_rows, why_not_ready
from tests.support.registry import model

LONG = "a-model-with-a-name-of-forty-characters-"


def view(*workers: dict[str, Any], ready: bool = False, **changes: Any) -> dict[str, Any]:
    entry = model("small", variant="compressed", **changes).model_dump(mode="json")
    return {"model": entry, "ready": ready, "aliases": ["prod"], "children": [], "workers": workers}


def test_who_cannot_be_asked_says_why() -> None:
    failed = {
        "status": "backoff",
        "restarts": 0,
        "error": "/x lies in none of INFOPRUNE_MODEL_ROOTS.",
    }
    starting = {"status": "starting", "restarts": 0, "error": None}
    assert why_not_ready(view(failed)) == f"small is not ready: {failed['error']}"
    assert why_not_ready(view(starting)) == "small is not ready: its worker is starting."
    assert "no worker runs it yet" in str(why_not_ready(view()))
    assert why_not_ready(view(ready=True)) is None
    assert why_not_ready(view(state="retired")) is None


def test_a_model_is_told_for_a_person() -> None:
    told = dict(
        model_rows(view(params=6069968, recipe={"flops": 0.4}, measured={"a": 1}, created=0.0))
    )
    assert told["params"] == "6,069,968"
    assert told["recipe"] == "flops: 0.4"
    assert told["measured"] == "see --json"
    assert told["ready"] == "no"
    assert "job" not in told, "what is not known is left out"


def test_a_name_is_whole_however_narrow_the_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    header = ["model", "state", "ready", "original", "parameters", "accuracy", "aliases"]
    print_table(header, [[2 * LONG, "active", "yes", LONG, "6,069,968", "easy-vqa 0.999", "prod"]])
    assert 2 * LONG in capsys.readouterr().out


def test_brackets_are_no_markup(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(["worker", "error"], [["a", "[core.py:842] see [/docs]"]])
    assert "[core.py:842] see [/docs]" in capsys.readouterr().out


def test_a_pipe_gets_a_line_a_row(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    print_table(["model", "why"], [[LONG, "x" * 300]])
    assert "x" * 300 in capsys.readouterr().out
