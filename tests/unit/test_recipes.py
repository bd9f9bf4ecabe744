"""What the form of a job is told."""

from __future__ import annotations

from compressor.recipe import parse_recipe
from service.gateway.recipes import describe


def test_what_a_job_would_do_is_said_in_words() -> None:
    recipe = {"flops": 0.5, "evaluation": {"datasets": ["easy-vqa", "drawn-text"], "samples": 50}}
    assert describe("a", "a-half", parse_recipe(recipe)) == (
        "a would be compressed to 50 % of its FLOPs before the first token, as a-half: training-free, "
        "layout adaptive, vision, projector and language. Calibration on easy-vqa, 50 test questions "
        "of easy-vqa and drawn-text."
    )


def test_a_bound_on_accuracy_is_in_points() -> None:
    recipe = {"max_accuracy_drop": 0.005, "evaluation": {"samples": 0}}
    said = describe("a", "b", parse_recipe(recipe))
    assert "loses at most 0.5 points of accuracy" in said
    assert said.endswith("no evaluation.")
