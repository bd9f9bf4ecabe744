"""What was measured of served models is kept with them."""

from __future__ import annotations

from redis import Redis

from compressor.evaluate.metrics import Interval
from service.evaluations.keep import keep
from service.registry import Registry
from tests.support.registry import model

BIG, SMALL = Interval(0.98, 0.97, 0.99, 1000), Interval(0.97, 0.96, 0.98, 1000)
LOST = Interval(-0.01, -0.02, 0.0, 1000)


def registry_of(redis: Redis) -> Registry:
    registry = Registry(redis)
    registry.put_model(model("big"))
    old = {"easy-vqa": {"value": 0.5, "low": 0.4, "high": 0.6, "n": 9}, "mine": LOST.to_json()}
    small = model("small", variant="compressed", base="big", measured={"accuracy_difference": old})
    registry.put_model(small)
    return registry


def test_accuracies_and_their_paired_difference_are_of_the_same_questions(redis: Redis) -> None:
    registry = registry_of(redis)
    found = {"big": {"easy-vqa": BIG}, "small": {"easy-vqa": SMALL}}
    keep(registry, found, {"easy-vqa": LOST}, evaluation="e1")
    big, small = registry.model("big"), registry.model("small")
    assert big is not None
    assert small is not None
    assert (big.accuracy["easy-vqa"].value, big.evaluation) == (0.98, "e1")
    assert big.measured is None
    assert small.accuracy["easy-vqa"].value == 0.97
    assert small.measured is not None
    difference = small.measured["accuracy_difference"]
    assert difference["easy-vqa"]["value"] == -0.01
    assert "mine" in difference, "other datasets' stay"


def test_a_difference_from_another_model_than_its_original_is_not_kept(redis: Redis) -> None:
    registry = registry_of(redis)
    registry.put_model(model("other"))
    found = {"other": {"easy-vqa": BIG}, "small": {"easy-vqa": SMALL}}
    keep(registry, found, {"easy-vqa": LOST}, evaluation="e1")
    small = registry.model("small")
    assert small is not None
    assert small.accuracy["easy-vqa"].value == 0.97
    assert small.measured is not None
    assert small.measured["accuracy_difference"]["easy-vqa"]["value"] == 0.5


def test_a_model_that_was_deleted_meanwhile_is_left_out(redis: Redis) -> None:
    registry = registry_of(redis)
    registry.remove_model("big")
    keep(registry, {"big": {"easy-vqa": BIG}, "small": {"easy-vqa": SMALL}}, {}, evaluation="e1")
    assert registry.model("big") is None
    small = registry.model("small")
    assert small is not None
    assert small.evaluation == "e1"
