"""`/compress/options` and `/compress/check`: presets, and models that cannot be compressed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from redis import Redis

from compressor.recipe import parse_recipe
from service.gateway.discovery import served_elsewhere
from service.gateway.recipes import PRESETS
from service.registry import Registry
from tests.integration.conftest import entry
from tests.support.http import Reply, call
from tests.support.servers import wait_until


def check(url: str, model: str, recipe: object) -> Reply:
    return call("POST", f"{url}/compress/check", {"model": model, "recipe": recipe})


def known(url: str, name: str) -> None:
    wait_until(lambda: call("GET", f"{url}/v1/models/{name}").status == 200)


def test_presets_are_listed_with_whole_recipes_that_a_check_takes(gateway: str) -> None:
    listed = call("GET", f"{gateway}/compress/options").json()["presets"]
    assert [each["name"] for each in listed] == [preset.name for preset in PRESETS]
    for each, preset in zip(listed, PRESETS, strict=True):
        assert each["description"] == preset.description
        assert parse_recipe(each["recipe"]) == preset.recipe
        reply = check(gateway, "tiny", each["recipe"])
        assert (reply.status, parse_recipe(reply.json()["recipe"])) == (200, preset.recipe)


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"architectures": ["GPT2LMHeadModel"]}, "Architecture GPT2LMHeadModel has no family"),
        ({"architectures": ["LlavaForConditionalGeneration"]}, "supported: LlavaForConditional"),
    ],
)
def test_a_model_of_no_known_family_is_refused_before_there_is_a_job(
    gateway: str, redis: Redis, tmp_path: Path, config: object, said: str
) -> None:
    (tmp_path / "config.json").write_text(json.dumps(config))
    Registry(redis).put_model(entry("other", str(tmp_path)))
    known(gateway, "other")
    for path in ("compress", "compress/check"):
        reply = call("POST", f"{gateway}/{path}", {"model": "other", "recipe": {"flops": 0.5}})
        assert reply.status == 400
        assert reply.json()["error"]["param"] == "model"
        assert said in reply.sentence()
    assert call("GET", f"{gateway}/compress").json()["data"] == []


def test_a_model_that_only_a_worker_elsewhere_has_is_refused(gateway: str, redis: Redis) -> None:
    Registry(redis).put_model(served_elsewhere("far"))
    known(gateway, "far")
    reply = check(gateway, "far", {"flops": 0.5})
    assert (reply.status, "no checkpoint of it is known here" in reply.sentence()) == (400, True)
