"""`/compress` over HTTP; the jobs wait, as no runner takes them."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from redis import Redis
from redis.exceptions import RedisError

from service.jobs.records import JobRecords
from service.registry import Flops, Registry
from service.store import EmbeddedValkey
from tests.integration.conftest import entry
from tests.support.servers import wait_until


def call(
    method: str, url: str, body: Any = None, headers: dict[str, str] | None = None
) -> tuple[int, Any]:
    data = None if body is None else json.dumps(body).encode()
    sent = {"content-type": "application/json"} | (headers or {})
    request = urllib.request.Request(url, data, sent, method=method)
    try:
        with urllib.request.urlopen(request, timeout=10) as response:
            return response.status, json.loads(response.read())
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.loads(error.read())


def sentence(answer: Any) -> str:
    return str(answer["error"]["message"])


HALF = {"model": "tiny", "recipe": {"flops": 0.5}}


def test_a_job_is_queued_listed_and_cancelled(gateway: str) -> None:
    status, job = call("POST", f"{gateway}/compress", HALF)
    assert status == 202
    assert (job["status"], job["name"]) == ("queued", "tiny-flops0.5")
    assert job["recipe"]["calibration"]["samples"] == 256, "defaults are written down"

    assert call("GET", f"{gateway}/compress/{job['id']}") == (200, job)
    assert call("GET", f"{gateway}/compress")[1]["data"] == [job]

    status, cancelled = call("DELETE", f"{gateway}/compress/{job['id']}")
    assert (status, cancelled["status"]) == (200, "cancelled")
    again = call("DELETE", f"{gateway}/compress/{job['id']}")
    assert again == (200, cancelled), "cancelling twice changes nothing"


@pytest.mark.parametrize(
    ("body", "status", "expected"),
    [
        ({"model": "tiny", "recipe": {"flop": 0.5}}, 400, "did you mean 'flops'?"),
        ({"model": "tiny", "recipe": {"flops": 2}}, 400, "a share between 0 and 1"),
        ({"model": "huge", "recipe": {"flops": 0.5}}, 404, "models: tiny, asleep"),
        ({"model": "tiny"}, 400, "The key 'recipe' is missing"),
        ({**HALF, "name": "a/b"}, 400, "A name has letters"),
        ({**HALF, "name": "asleep"}, 409, "'asleep' is taken"),
    ],
)
def test_what_cannot_be_done_is_refused_before_it_is_queued(
    gateway: str, body: Any, status: int, expected: str
) -> None:
    found, answer = call("POST", f"{gateway}/compress", body)
    assert found == status
    assert expected in sentence(answer)
    assert call("GET", f"{gateway}/compress")[1]["data"] == []


def test_a_name_is_taken_while_its_job_waits_and_free_after(gateway: str) -> None:
    named = {**HALF, "name": "mine"}
    _, job = call("POST", f"{gateway}/compress", named)
    assert call("POST", f"{gateway}/compress", named)[0] == 409
    assert call("POST", f"{gateway}/compress", HALF)[1]["name"] == "tiny-flops0.5"
    assert call("POST", f"{gateway}/compress", HALF)[1]["name"] == "tiny-flops0.5-2"

    call("DELETE", f"{gateway}/compress/{job['id']}")
    assert call("POST", f"{gateway}/compress", named)[0] == 202


def test_a_compressed_model_is_not_compressed_again(gateway: str, redis: Redis) -> None:
    changes = {"variant": "compressed", "base": "tiny"}
    Registry(redis).put_model(entry("small").model_copy(update=changes))
    wait_until(lambda: call("GET", f"{gateway}/v1/models/small")[0] == 200)

    status, answer = call("POST", f"{gateway}/compress", {**HALF, "model": "small"})

    assert status == 400
    assert "compress its original 'tiny'" in sentence(answer)


def test_a_repeated_request_with_a_key_is_one_job(gateway: str) -> None:
    def submit(body: Any) -> tuple[int, Any]:
        return call("POST", f"{gateway}/compress", body, {"Idempotency-Key": "k1"})

    first, second = submit(HALF), submit(HALF)
    assert first == second
    assert len(call("GET", f"{gateway}/compress")[1]["data"]) == 1
    status, answer = submit({**HALF, "recipe": {"flops": 0.4}})
    assert status == 422
    assert "'k1' was used for another request" in sentence(answer)


def test_a_job_is_followed_to_its_end_and_its_log_is_read(gateway: str, redis: Redis) -> None:
    _, job = call("POST", f"{gateway}/compress", HALF)
    records = JobRecords(redis)
    token = records.claim(job["id"])
    assert token is not None
    records.log(job["id"], "stage score")
    seen = []
    with urllib.request.urlopen(f"{gateway}/compress/{job['id']}/events", timeout=30) as stream:
        for line in stream:
            if line.startswith(b"data:"):
                seen.append(json.loads(line[5:]))
                if len(seen) == 1:
                    records.progress(job["id"], token, "score", 30.0, 12.0)
                elif len(seen) == 2:
                    records.end(job["id"], "finished", token=token, report={})
    assert [(e["status"], e["stage"]) for e in (seen[0], seen[-1])] == [
        ("running", None), ("finished", "score"),
    ]  # fmt: skip
    assert any(e["seconds_left"] for e in seen)
    assert call("GET", f"{gateway}/compress/{job['id']}/logs")[1] == {"lines": ["stage score"]}
    assert call("GET", f"{gateway}/compress/none/events")[0] == 404


def test_an_unknown_job_is_not_found(gateway: str) -> None:
    for method in ("GET", "DELETE"):
        status, answer = call(method, f"{gateway}/compress/none")
        assert status == 404
        assert "GET /compress lists all jobs" in sentence(answer)


def test_serving_goes_on_while_redis_is_away(gateway: str, redis: Redis) -> None:
    redis.shutdown(nosave=True)
    wait_until(lambda: call("GET", f"{gateway}/ready")[1]["store"] == "away")

    status, answer = call("POST", f"{gateway}/compress", HALF)
    assert status == 503
    assert "Redis cannot be reached" in sentence(answer)
    assert call("GET", f"{gateway}/compress")[0] == 503

    question = {"model": "tiny", "messages": [{"role": "user", "content": "red?"}]}
    status, completion = call("POST", f"{gateway}/v1/chat/completions", question)
    assert status == 200
    assert completion["choices"][0]["message"]["content"] == "yes"


def test_what_was_stored_is_there_after_a_restart(tmp_path: Path) -> None:
    """The append-only file: jobs and models survive the store's process."""
    for expected in ([], ["kept"]):
        store = EmbeddedValkey(tmp_path / "valkey", log=tmp_path / "log")
        with Redis.from_url(store.start()) as client:
            registry = Registry(client)
            assert list(registry.snapshot().models) == expected
            registry.put_model(entry("kept"))
        store.stop()


def test_the_store_asks_for_its_password(redis_url: str, tmp_path: Path) -> None:
    open_url = "redis://" + redis_url.partition("@")[2]
    with Redis.from_url(open_url) as client, pytest.raises(RedisError, match=r"(?i)auth"):
        client.ping()
    assert (tmp_path / "valkey" / "valkey.conf").stat().st_mode & 0o077 == 0


def test_a_snapshot_holds_what_was_put(redis: Redis) -> None:
    registry = Registry(redis)
    flops = Flops(vision=1, projector=2, prefill=3, decode_token=4, visual_tokens=5, text_tokens=6)
    model = entry("a").model_copy(update={"flops": flops})
    registry.put_model(model)
    assert registry.snapshot().models == {"a": model}
    assert registry.model("a") == model
    registry.remove_model("a")
    assert registry.model("a") is None
