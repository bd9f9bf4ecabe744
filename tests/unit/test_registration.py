"""What an operator's models are known as: lineage from the checkpoint, and what was known before."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from service.registration import (
    is_original_of,
    named_again,
    with_accuracy_of,
    with_lineage,
)
from service.registry import Interval, ModelEntry
from tests.support.registry import model

INTERVAL = {"value": 0.9, "low": 0.8, "high": 1.0, "n": 100}


def checkpoint(place: Path, **changes: Any) -> ModelEntry:
    """The files that lineage is read from, as `infoprune compress` leaves them."""
    report = {
        "model": "big",
        "original": {"params": 10, "accuracy": {}},
        "compressed": {"params": 4, "accuracy": {"easy-vqa": INTERVAL}},
        **changes,
    }
    (place / "report").mkdir()
    (place / "report.json").write_text(json.dumps(report))
    (place / "report" / "data.json").write_text(json.dumps({"recipe": {"flops": 0.5}}))
    (place / "config.json").write_text(json.dumps({"compression": {"plan_sha256": "abc"}}))
    return model("small", variant="compressed", path=str(place), params=4)


def test_a_checkpoint_says_what_it_was_made_of_and_what_was_measured(tmp_path: Path) -> None:
    found = with_lineage(checkpoint(tmp_path))
    assert (found.base, found.plan_sha256, found.recipe) == ("big", "abc", {"flops": 0.5})
    assert found.accuracy["easy-vqa"].value == 0.9
    assert found.report == str(tmp_path / "report.json")


def test_a_checkpoint_without_a_report_or_with_a_strange_one_is_served_all_the_same(
    tmp_path: Path,
) -> None:
    bare = model("small", variant="compressed", path=str(tmp_path))
    assert with_lineage(bare) == bare
    strange = checkpoint(tmp_path, compressed={"accuracy": {"easy-vqa": "good"}})
    assert with_lineage(strange) == strange


def test_an_original_is_told_by_its_parameters(tmp_path: Path) -> None:
    small = with_lineage(checkpoint(tmp_path))
    assert is_original_of(model("big", params=10), small)
    assert not is_original_of(model("big", params=11), small)
    assert not is_original_of(model("big", params=10, variant="compressed"), small)
    assert not is_original_of(None, small)


def test_of_an_originals_measurements_that_of_more_questions_counts(tmp_path: Path) -> None:
    told = {"easy-vqa": INTERVAL, "drawn-text": INTERVAL}
    small = with_lineage(checkpoint(tmp_path, original={"params": 10, "accuracy": told}))
    own = Interval(value=0.95, low=0.9, high=1.0, n=3000)
    big = model("big", params=10).model_copy(update={"accuracy": {"easy-vqa": own}})
    found = with_accuracy_of(big, small)
    assert found.accuracy == {"easy-vqa": own, "drawn-text": Interval(**INTERVAL)}
    few = big.model_copy(update={"accuracy": {"easy-vqa": own.model_copy(update={"n": 32})}})
    assert with_accuracy_of(few, small).accuracy["easy-vqa"] == Interval(**INTERVAL)
    assert with_accuracy_of(big, small.model_copy(update={"measured": None})) == big


def test_the_same_weights_named_again_keep_what_was_known(tmp_path: Path) -> None:
    small = with_lineage(checkpoint(tmp_path))
    known = small.model_copy(update={"state": "retired", "retired_at": 1.0, "evaluation": "e"})
    found = named_again(known, small)
    assert (found.state, found.evaluation) == ("active", "e")


def test_other_weights_at_the_same_place_are_another_model(tmp_path: Path) -> None:
    small = with_lineage(checkpoint(tmp_path))
    known = small.model_copy(update={"plan_sha256": "of the first"})
    assert named_again(known, small).plan_sha256 == "abc", "which the registry then refuses"
