"""From a client's request to a promotion: alias, shadow and canary over HTTP."""

from __future__ import annotations

from typing import Any

import pytest
from redis import Redis

from service.registry import Registry, WorkerState
from tests.integration.test_compression_api import call
from tests.support.registry import model
from tests.support.servers import wait_until

QUESTION = {
    "model": "prod", "temperature": 0, "messages": [{"role": "user", "content": "red?"}],
}  # fmt: skip


@pytest.fixture
def prod(gateway: str, redis: Redis, fake_engine: str) -> str:
    """The gateway, with an alias `prod` of `tiny`, and a model `small` that can answer."""
    registry = Registry(redis)
    registry.put_model(model("small", variant="compressed", base="tiny", plan_sha256="1"))
    registry.put_worker(WorkerState(id="w3", model="small", url=fake_engine, status="ready"))
    wait_until(lambda: call("GET", f"{gateway}/models/small")[1].get("ready", False))
    assert call("PUT", f"{gateway}/aliases/prod", {"targets": [{"model": "tiny"}]})[0] == 200
    return gateway


def ask(url: str, **changes: Any) -> str:
    status, answer = call("POST", f"{url}/v1/chat/completions", QUESTION | changes)
    assert status == 200, answer
    return str(answer["choices"][0]["message"]["content"])


def comparison(url: str) -> Any:
    """None until the first request was mirrored."""
    return call("GET", f"{url}/aliases/prod")[1]["comparison"]


def mirrored(url: str) -> int:
    found = comparison(url)
    return 0 if found is None else int(found["candidate"]["mirrored"])


def test_a_shadow_sees_the_clients_requests_and_agrees(prod: str) -> None:
    call("POST", f"{prod}/aliases/prod/shadow", {"candidate": "small", "share": 1.0})
    for _ in range(10):
        assert ask(prod) == "yes"
    assert ask(prod, temperature=0.5) == "yes"

    wait_until(lambda: mirrored(prod) == 11)
    found = comparison(prod)
    assert (found["reference"]["served"], found["sampled"]) == (11, 1)
    assert (found["agreement"]["n"], found["agreement"]["value"]) == (10, 1.0)
    assert found["candidate"]["errors"]["value"] == 0.0


def test_a_canary_climbs_on_real_requests_and_is_promoted(prod: str) -> None:
    rules = {
        "candidate": "small", "steps": [50, 100], "min_samples": 5, "hold_s": 0, "mirror": 1.0,
        "min_agreement": 0.5, "max_error_increase": 0.5, "max_p95_increase": 1e6,
    }  # fmt: skip
    call("POST", f"{prod}/aliases/prod/canary", rules)

    def promoted() -> bool:
        for _ in range(20):
            ask(prod)
        alias = call("GET", f"{prod}/aliases/prod")[1]["alias"]
        return alias["last_canary"] is not None

    wait_until(promoted, timeout_s=90)
    alias = call("GET", f"{prod}/aliases/prod")[1]["alias"]
    assert alias["last_canary"]["outcome"] == "promoted", alias["last_canary"]
    assert [t["model"] for t in alias["targets"]] == ["small"]


def test_a_candidate_whose_engine_is_gone_is_rolled_back(prod: str, redis: Redis) -> None:
    gone = WorkerState(id="w3", model="small", url="http://127.0.0.1:9", status="ready")
    Registry(redis).put_worker(gone)
    rules = {"candidate": "small", "steps": [1], "hold_s": 0, "mirror": 1.0}
    call("POST", f"{prod}/aliases/prod/canary", rules)

    def over() -> bool:
        for number in range(20):
            call("POST", f"{prod}/v1/chat/completions", QUESTION | {"user": f"u{number}"})
        return call("GET", f"{prod}/aliases/prod")[1]["alias"]["canary"] is None

    wait_until(over, timeout_s=60)
    last = call("GET", f"{prod}/aliases/prod")[1]["alias"]["last_canary"]
    assert (last["outcome"], last["reason"].split()[:2]) == ("rolled_back", ["Error", "rate"])
    assert ask(prod) == "yes"
