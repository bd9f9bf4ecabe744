"""`/comparison`, the form's helpers and reports over HTTP."""

from __future__ import annotations

from pathlib import Path

import pytest
from redis import Redis

from service.jobs.records import JobRecords
from service.keys import KeyStore
from service.registry import Registry, WorkerState
from service.settings import Settings
from tests.integration.conftest import entry
from tests.support.http import Reply, call, chat
from tests.support.registry import model
from tests.support.servers import gateway_within, wait_until

DIFFERENCE = {"easy-vqa": {"value": -0.01, "low": -0.02, "high": 0.0, "n": 8}}


@pytest.fixture
def pair(gateway: str, redis: Redis, fake_engine: str) -> str:
    """The gateway; beside `tiny` there is `small`, compressed from it."""
    registry = Registry(redis)
    measured = {"accuracy_difference": DIFFERENCE}
    small = model("small", variant="compressed", base="tiny", params=1, measured=measured)
    registry.put_model(small)
    registry.put_worker(WorkerState(id="w3", model="small", url=fake_engine, status="ready"))
    wait_until(lambda: call("GET", f"{gateway}/v1/models/small").status == 200)
    return gateway


def compare(url: str, query: str = "original=tiny&compressed=small") -> Reply:
    return call("GET", f"{url}/comparison?{query}")


def test_both_models_are_told_in_one_answer(pair: str) -> None:
    for name in ("tiny", "tiny", "small"):
        assert (
            call("POST", f"{pair}/v1/chat/completions", chat(model=name, stream=True)).status == 200
        )
    found = compare(pair).json()
    sides = [found["original"], found["compressed"]]
    assert [side["answered"] for side in sides] == [2, 1]
    assert [side["window"]["answered"] for side in sides] == [2, 1]
    assert all(side["window"]["first_token_p50_s"] > 0 for side in sides)
    assert found["ratios"]["p50"] is not None
    assert found["accuracy_difference"] == DIFFERENCE
    series = found["series"]
    assert len(series["at"]) == len(series["original"]["p50_s"])


@pytest.mark.parametrize(
    ("query", "status"),
    [("original=tiny&compressed=none", 404), ("original=tiny&compressed=tiny", 400),
     ("original=tiny", 400), ("original=tiny&compressed=small&window_s=1", 400)],
)  # fmt: skip
def test_what_cannot_be_compared_is_refused(pair: str, query: str, status: int) -> None:
    assert compare(pair, query).status == status


def test_answers_agree_by_the_canarys_own_rule(gateway: str) -> None:
    def agree(a: str, b: str) -> float:
        body, headers = {"a": a, "b": b}, {"content-type": "application/json"}
        return float(call("POST", f"{gateway}/comparison/agreement", body, headers).json()["value"])

    assert agree("Yes.", "yes") == 1.0
    assert agree("red", "blue") == 0.0


def test_a_form_learns_what_recipes_can_say(gateway: str) -> None:
    options = call("GET", f"{gateway}/compress/options").json()
    assert "flops" in options["targets"]
    assert "easy-vqa" in options["datasets"]
    assert options["recipe"]["properties"]["layout"]["enum"] == ["adaptive", "uniform"]


@pytest.mark.parametrize("target", ["flops", "params", "latency", "max_accuracy_drop"])
def test_a_request_is_judged_without_being_queued(gateway: str, target: str) -> None:
    body = {"model": "tiny", "recipe": {target: 0.5}}
    reply = call("POST", f"{gateway}/compress/check", body)
    assert (reply.status, reply.json()["recipe"]["calibration"]["samples"]) == (200, 256)
    assert reply.json()["name"] in reply.json()["message"]
    assert call("GET", f"{gateway}/compress").json()["data"] == []
    refused = call("POST", f"{gateway}/compress/check", body | {"name": "asleep"})
    assert (refused.status, "taken" in refused.sentence()) == (409, True)


def test_a_jobs_report_is_read_with_a_key_only(
    settings: Settings, redis: Redis, tmp_path: Path
) -> None:
    page = tmp_path / "made" / "report" / "index.html"
    page.parent.mkdir(parents=True)
    page.write_text("<h1>what was cut</h1>")
    job, _ = JobRecords(redis).create("tiny", "made", {"flops": 0.5})
    for made in (entry("tiny"), model("made", path=str(tmp_path / "made"), job=job.id)):
        Registry(redis).put_model(made)
    token, _ = KeyStore(redis).create("web", frozenset({"jobs"}))
    shown = {"authorization": f"Bearer {token}"}
    with gateway_within(settings.model_copy(update={"auth": "keys"})):
        url = f"{settings.gateway_url}/compress/{job.id}/report"
        assert call("GET", url).status == 401
        reply = call("GET", url, headers=shown)
        assert (reply.status, reply.body) == (200, b"<h1>what was cut</h1>")
        assert "sandbox" in reply.headers["content-security-policy"]
        assert (
            call("GET", f"{settings.gateway_url}/models/made/report", headers=shown).status == 403
        )
        page.unlink()
        gone = call("GET", url, headers=shown)
        assert (gone.status, gone.sentence()[:25]) == (404, "There is no report of the")


def test_the_page_is_public_and_its_data_is_not(settings: Settings, redis: Redis) -> None:
    del redis
    with gateway_within(settings.model_copy(update={"auth": "keys"})):
        url = settings.gateway_url
        assert call("GET", f"{url}/").headers["location"] == "/ui/"
        first = call("GET", f"{url}/ui/compare")
        assert (first.status, b"<main" in first.body) == (200, True)
        known = {"if-none-match": first.headers["etag"]}
        assert call("GET", f"{url}/ui/compare", headers=known).status == 304
        assert call("GET", f"{url}/ui/config.json").json()["auth"] == "keys"
        assert call("GET", f"{url}/ui/../v1/models").status == 404
        for path in ("/comparison", "/v1/models", "/compress/options", "/models"):
            assert call("GET", url + path).status == 401
