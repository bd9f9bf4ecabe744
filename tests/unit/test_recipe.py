from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from compressor.errors import RecipeError
from compressor.recipe import parse_recipe, read_recipe


def test_only_the_budget_must_be_given() -> None:
    recipe = parse_recipe({"flops": 0.5})

    assert recipe.flops == 0.5
    assert recipe.target == ("flops", 0.5)
    assert recipe.layout == "adaptive"


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ({"flop": 0.5}, "Unknown recipe key 'flop'; did you mean 'flops'?"),
        (
            {"flops": 0.5, "calibration": {"sample": 9}},
            "Unknown recipe key 'calibration.sample'; did you mean 'samples'?",
        ),
        (
            {"seed": 1},
            "The recipe lacks a target, one of flops, params, latency, max_accuracy_drop; "
            "for half of the original's FLOPs write flops: 0.5.",
        ),
        (
            {"flops": 0.5, "params": 0.4},
            "The recipe has flops and params; give exactly one target.",
        ),
        (
            {"flops": 0.5, "scope": {"vision": False, "projector": False, "language": False}},
            "The recipe's scope leaves nothing to compress; switch a tower on.",
        ),
        ({"flops": 1.5}, "The target flops: 1.5 is impossible: it is a share between 0 and 1."),
        ({"params": 0}, "The target params: 0 is impossible: it is a share between 0 and 1."),
    ],
)
def test_a_wrong_key_or_budget_is_named_in_one_sentence(
    content: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(RecipeError) as caught:
        parse_recipe(content)
    assert str(caught.value) == sentence


@pytest.mark.parametrize("content", [None, "flops", [0.5], 0.5])
def test_what_is_no_object_is_refused(content: object) -> None:
    with pytest.raises(RecipeError, match="object of keys and values"):
        parse_recipe(content)


def test_a_recipe_is_read_from_a_file_or_inline(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text("flops: 0.4\nseed: 3\n")

    assert read_recipe(str(path)) == read_recipe("{flops: 0.4, seed: 3}")


def test_a_missing_file_and_broken_yaml_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="no recipe file"):
        read_recipe(str(tmp_path / "none.yaml"))
    with pytest.raises(RecipeError, match="neither YAML nor JSON"):
        read_recipe("flops: [")
    with pytest.raises(RecipeError, match=r"need braces: \{flops"):
        read_recipe("flops: 0.5, samples: 3")


def test_a_recipe_written_inline_may_be_longer_than_a_file_name() -> None:
    datasets = ", ".join(f"questions-{number}.jsonl" for number in range(30))
    recipe = read_recipe(f"{{flops: 0.5, calibration: {{datasets: [{datasets}]}}}}")
    assert len(recipe.calibration.datasets) == 30
