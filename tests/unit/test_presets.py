"""The presets of the form are the recipes of docs/recipes.md."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml

from compressor.evaluate.datasets import DATASETS
from compressor.recipe import Recipe, parse_recipe
from service.gateway.recipes import PRESETS, Preset
from tests.support.doc_blocks import Block, blocks
from tests.support.servers import ROOT

PAGE = (ROOT / "docs" / "recipes.md").read_text()
INLINE = re.compile(r"--recipe '(?P<recipe>[^']+)'")
RECOVERY = re.compile(r"--recovery (?P<steps>\d+)")


def documented() -> dict[str, Recipe]:
    """The recipe of every heading of the page that has one."""
    sections = re.split(r"^## (.+)$", PAGE, flags=re.MULTILINE)[1:]
    found = (
        (title, recipe_of(text)) for title, text in zip(sections[::2], sections[1::2], strict=True)
    )
    return {title: parse_recipe(recipe) for title, recipe in found if recipe is not None}


def recipe_of(section: str) -> dict[str, Any] | None:
    """Of its file, or else of its first command with one."""
    found = blocks(section)
    for block in found:
        if block.kind == "file" and block.title.endswith(".yaml"):
            return dict(yaml.safe_load(block.text))
    inline = (of_command(block) for block in found if block.kind == "command")
    return next((recipe for recipe in inline if recipe is not None), None)


def of_command(block: Block) -> dict[str, Any] | None:
    match = INLINE.search(block.text)
    if match is None:
        return None
    recipe: dict[str, Any] = yaml.safe_load(match["recipe"])
    if block.text.startswith("infoprune demo"):
        # The page says "with another seed", and the demo asks both models itself.
        del recipe["seed"]
        recipe["evaluation"]["samples"] = 500
        steps = RECOVERY.search(block.text)
        assert steps is not None
        recipe["recovery"] = {"steps": int(steps["steps"])}
    return recipe


def test_the_presets_are_the_recipes_of_the_documentation_in_its_order() -> None:
    assert {preset.name: preset.recipe for preset in PRESETS} == documented()
    assert [preset.name for preset in PRESETS] == list(documented())
    assert len(PRESETS) >= 6


@pytest.mark.parametrize("preset", PRESETS, ids=lambda p: p.name)
def test_a_preset_says_in_one_sentence_what_it_does(preset: Preset) -> None:
    assert re.fullmatch(r"[A-Z].*[^.]\.", preset.description)
    assert ". " not in preset.description


@pytest.mark.parametrize("preset", PRESETS, ids=lambda p: p.name)
def test_a_preset_is_a_recipe_on_data_that_comes_with_the_service(preset: Preset) -> None:
    sent = preset.recipe.model_dump(mode="json")
    assert parse_recipe(sent) == preset.recipe
    asked = {*preset.recipe.calibration.datasets, *preset.recipe.evaluation.datasets}
    assert asked <= set(DATASETS)
