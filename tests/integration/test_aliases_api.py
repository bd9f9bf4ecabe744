"""`/aliases` and `/models` over HTTP, and the commands that call them."""

from __future__ import annotations

import json
from typing import Any

import pytest
from redis import Redis
from typer.testing import CliRunner, Result

from service.cli import app
from service.rollout.counters import PairCounters
from tests.integration.test_compression_api import call, sentence
from tests.support.servers import wait_until

TINY = {"targets": [{"model": "tiny"}], "reason": "first"}


def test_an_alias_is_set_changed_promoted_and_rolled_back(pair: str) -> None:
    status, view = call("PUT", f"{pair}/aliases/prod", TINY, {"x-infoprune-actor": "ada"})
    assert (status, view["alias"]["version"]) == (200, 1)
    _, view = call("POST", f"{pair}/aliases/prod/promote", {"model": "small"})
    assert [t["model"] for t in view["alias"]["targets"]] == ["small"]
    _, view = call("POST", f"{pair}/aliases/prod/rollback", {"reason": "slow"})
    assert [t["model"] for t in view["alias"]["targets"]] == ["tiny"]

    _, history = call("GET", f"{pair}/aliases/prod/history")
    assert [(c["what"], c["who"], c["why"]) for c in history["data"]] == [
        ("roll back", "unknown", "slow"), ("promote", "unknown", ""), ("set", "ada", "first"),
    ]  # fmt: skip
    listed = [m["id"] for m in call("GET", f"{pair}/v1/models")[1]["data"]]
    assert listed == ["tiny", "asleep", "small", "prod"]
    assert call("GET", f"{pair}/v1/models/prod")[1]["ready"] is True


def test_a_canary_is_started_seen_and_stopped(pair: str, redis: Redis) -> None:
    call("PUT", f"{pair}/aliases/prod", TINY)
    started = {"candidate": "small", "min_samples": 10, "hold_s": 0}
    status, view = call("POST", f"{pair}/aliases/prod/canary", started)
    assert status == 200
    assert view["comparison"]["percent"] == 1
    assert "0 of 10 answers" in view["comparison"]["reason"]

    # What the gateways count moves it, by the controller that one of them runs.
    counters = PairCounters("test")
    for _ in range(1000):
        for side in ("reference", "candidate"):
            counters.served(
                view["alias"]["canary"]["id"], side, failed=False, latency_s=0.1, copied=False
            )
        counters.add(view["alias"]["canary"]["id"], pairs=1, agreement=1.0)
    counters.close_batch()
    counters.send(redis)
    wait_until(lambda: call("GET", f"{pair}/aliases/prod")[1]["comparison"]["percent"] == 5)
    assert call("GET", f"{pair}/aliases/prod")[1]["comparison"]["agreement"]["value"] == 1.0

    _, view = call("DELETE", f"{pair}/aliases/prod/canary?reason=enough")
    assert view["alias"]["last_canary"]["reason"] == "enough"


def test_one_command_puts_a_candidate_behind_a_new_alias_at_five_percent(pair: str) -> None:
    def run(*arguments: str) -> Result:
        return CliRunner(env={"COLUMNS": "200"}).invoke(app, ["alias", *arguments, "--url", pair])

    def document(printed: str) -> dict[str, Any]:
        # The gateway of this test is a thread of this process: its log may end up in the same output.
        lines = [line for line in printed.splitlines() if not line.startswith('{"timestamp"')]
        found: dict[str, Any] = json.loads("\n".join(lines))
        return found

    started = run("canary", "prod", "small", "--original", "tiny", "--percent", "5", "--json")
    assert started.exit_code == 0, started.output
    alias = document(started.stdout)["alias"]
    assert [t["model"] for t in alias["targets"]] == ["tiny"]
    assert alias["canary"]["rules"]["steps"] == [5.0, 25.0, 50.0, 100.0]
    shown = run("show", "prod").stdout
    assert "canary small at 5 %" in shown
    assert "tiny 95 %" in shown
    assert "not ready" not in shown

    assert run("rollback", "prod", "--why", "slow").exit_code == 0
    assert [c["what"] for c in call("GET", f"{pair}/aliases/prod/history")[1]["data"]] == [
        "roll back", "canary small",
    ]  # fmt: skip


def test_who_starts_a_canary_of_a_model_that_cannot_be_asked_is_told(pair: str) -> None:
    arguments = ["canary", "prod", "asleep", "--original", "tiny", "--url", pair]
    started = CliRunner(env={"COLUMNS": "200"}).invoke(app, ["alias", *arguments])
    assert started.exit_code == 0, started.output
    assert "asleep is not ready: " in started.stdout


def test_an_alias_that_others_answer_gets_no_canary_by_mistake(pair: str) -> None:
    call("PUT", f"{pair}/aliases/prod", {"targets": [{"model": "asleep"}]})
    asked = {"candidate": "small", "original": "tiny"}
    status, answer = call("POST", f"{pair}/aliases/prod/canary", asked)
    assert (status, "answered by asleep" in sentence(answer)) == (409, True)
    # Nothing half-made: an unknown candidate leaves no alias behind.
    asked = {"candidate": "huge", "original": "tiny"}
    assert call("POST", f"{pair}/aliases/new/canary", asked)[0] == 400
    assert call("GET", f"{pair}/aliases/new")[0] == 404


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "expected"),
    [
        ("PUT", "/aliases/prod", {"targets": []}, 400, "targets: "),
        ("PUT", "/aliases/prod", {"targets": [{"model": "huge"}]}, 400, "'huge' is not registered"),
        ("PUT", "/aliases/tiny", TINY, 409, "'tiny' is taken"),
        ("PUT", "/aliases/-x", TINY, 400, "name: "),
        ("GET", "/aliases/none", None, 404, "aliases: none yet"),
        ("POST", "/aliases/none/rollback", {}, 404, "aliases: none yet"),
        ("DELETE", "/models/tiny", None, 409, "retire it first"),
        ("POST", "/models/none/retire", {}, 404, "'none' does not exist"),
        ("POST", "/evaluations", {"dataset": "x", "models": ["tiny"]}, 400, "'x' is unknown"),
        ("GET", "/evaluations/none", None, 404, "GET /evaluations lists all"),
    ],
)
def test_what_is_wrong_gets_one_sentence(
    gateway: str, method: str, path: str, body: Any, status: int, expected: str
) -> None:
    found, answer = call(method, gateway + path, body)
    assert (found, expected in sentence(answer)) == (status, True), answer


def test_a_model_is_retired_drained_and_deleted(pair: str) -> None:
    call("PUT", f"{pair}/aliases/prod", TINY)
    status, answer = call("POST", f"{pair}/models/tiny/retire", {})
    assert (status, "alias 'prod' points to the model 'tiny'" in sentence(answer)) == (409, True)
    status, view = call("POST", f"{pair}/models/small/retire", {"reason": "old"})
    assert (status, view["model"]["state"]) == (202, "retiring")
    wait_until(lambda: call("GET", f"{pair}/models/small")[1]["model"]["state"] == "retired")
    assert call("DELETE", f"{pair}/models/small")[0] == 200
    assert call("GET", f"{pair}/models/small")[0] == 404


def test_the_commands_do_the_same(pair: str) -> None:
    def run(*arguments: str) -> str:
        result = CliRunner().invoke(app, [*arguments, "--url", pair])
        assert result.exit_code == 0, result.output
        # The gateway runs in this process: a line of its access log may fall into what is captured.
        lines = result.output.splitlines(keepends=True)
        return "".join(line for line in lines if not line.startswith('{"timestamp"'))

    run("alias", "set", "prod", "tiny=9", "small=1", "--why", "try")
    targets = json.loads(run("alias", "show", "prod", "--json"))["alias"]["targets"]
    assert [t["weight"] for t in targets] == [9.0, 1.0]
    assert "tiny 90 %, small 10 %" in run("alias", "list")
    run("alias", "promote", "prod", "tiny")
    run("alias", "shadow", "prod", "small", "--share", "0.5")
    assert "shadow small of 50 %" in run("alias", "list")
    run("alias", "shadow", "prod", "--stop")
    run("alias", "canary", "prod", "small", "--rule", "steps=10,100", "--rule", "min_samples=9")
    assert "canary small at 10 %" in run("alias", "list")
    run("alias", "rollback", "prod")
    ended = " ".join(run("alias", "show", "prod").split())
    assert "agreement" in ended
    assert "before the last shadow or canary ended" in ended
    assert "try" in run("alias", "history", "prod")
    assert "prod" in run("models", "list")
    assert json.loads(run("models", "show", "small", "--json"))["model"]["base"] == "tiny"
    assert json.loads(run("models", "list", "--json"))["object"] == "list"
    run("alias", "delete", "prod")
    assert "retiring" in run("models", "retire", "small")
    refused = CliRunner().invoke(app, ["models", "delete", "tiny", "--url", pair])
    assert refused.exit_code == 1
    assert "retire it first" in refused.output
