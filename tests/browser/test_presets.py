"""The form of a job: presets fill it, what is filled stays editable, and what cannot work is told."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect
from redis import Redis

from compressor.recipe import Recipe, parse_recipe
from service.gateway.discovery import served_elsewhere
from service.gateway.recipes import PRESETS, Preset
from service.jobs.queue import JobQueue
from service.registry import Registry
from tests.browser.conftest import ORIGINAL, Watched, original

UNIFORM = next(preset for preset in PRESETS if preset.recipe.layout == "uniform")
FAST = next(preset for preset in PRESETS if not preset.recipe.low_rank_attention)
HALF = PRESETS[0]


def checked(page: Page) -> Any:
    """The body that the form sends when it is checked."""
    with page.expect_request("**/compress/check") as sent:
        page.get_by_role("button", name="Check").click()
    return sent.value.post_data_json


def recipe_of(page: Page) -> Recipe:
    return parse_recipe(checked(page)["recipe"])


@pytest.mark.parametrize("preset", PRESETS, ids=lambda p: p.name)
def test_a_chosen_preset_is_what_the_form_then_sends(web: Watched, preset: Preset) -> None:
    page = web.go("compress")
    page.get_by_label("Preset").select_option(preset.name)
    expect(page.get_by_role("status").filter(has_text=preset.description)).to_be_visible()
    assert recipe_of(page) == preset.recipe
    expect(page.get_by_text(f"{ORIGINAL} would be compressed to")).to_be_visible()


def test_one_preset_after_another_leaves_nothing_of_the_first(web: Watched) -> None:
    page = web.go("compress")
    for preset in (*PRESETS, *reversed(PRESETS)):
        page.get_by_label("Preset").select_option(preset.name)
    assert recipe_of(page) == HALF.recipe


def test_a_preset_fills_the_fields_that_are_seen(web: Watched) -> None:
    page = web.go("compress")
    page.get_by_role("group", name="Calibrate on").get_by_label("Other sets").fill("my.jsonl")
    page.get_by_label("vision tower").uncheck()
    page.get_by_label("Preset").select_option(HALF.name)
    expect(
        page.get_by_label("Steps of recovery training")
    ).to_be_hidden()  # nothing of it is unusual
    page.get_by_label("Preset").select_option(FAST.name)

    expect(page.get_by_label("Target")).to_have_value("flops")
    expect(page.get_by_label("Share of FLOPs to keep")).to_have_value("0.3125")
    for name in ("Calibrate on", "Evaluate on"):
        group = page.get_by_role("group", name=name)
        for dataset in ("easy-vqa", "drawn-text", "drawn-scenes"):
            expect(group.get_by_label(dataset, exact=True)).to_be_checked()
        expect(group.get_by_label("Other sets")).to_have_value("")
    expect(page.get_by_label("vision tower")).to_be_checked()
    expect(page.get_by_label("Steps of recovery training")).to_be_visible()
    expect(page.get_by_label("Steps of recovery training")).to_have_value("2000")
    expect(page.get_by_label("Learning rate of recovery")).to_have_value("0.0004")
    expect(page.get_by_label("Factor attention too")).not_to_be_checked()


def test_what_a_preset_filled_in_can_be_changed_and_chosen_anew(web: Watched, redis: Redis) -> None:
    page = web.go("compress")
    preset, said = page.get_by_label("Preset"), page.locator("#preset-said")
    preset.select_option(UNIFORM.name)
    page.get_by_text("More", exact=True).click()
    page.get_by_label("Name of the result").fill("mine")
    expect(preset).to_have_value(UNIFORM.name)
    page.get_by_label("Share of FLOPs to keep").fill("0.6")
    expect(preset).to_have_value("")
    expect(said).to_have_text(f"{UNIFORM.name}, changed.")
    page.get_by_role("button", name="Start").click()
    expect(page.get_by_role("region", name="mine")).to_be_visible()
    [job] = JobQueue(redis, job_timeout_s=60).list()
    assert parse_recipe(job.recipe) == UNIFORM.recipe.model_copy(update={"flops": 0.6})

    preset.select_option(UNIFORM.name)
    expect(page.get_by_label("Share of FLOPs to keep")).to_have_value("0.7")
    preset.select_option("none: your own recipe")
    expect(said).to_have_text("")


def test_what_a_preset_did_is_told_to_screen_readers(web: Watched) -> None:
    page = web.go("compress")
    said = page.locator("#preset-said")
    expect(said).to_have_attribute("role", "status")
    expect(said).to_have_text("")
    page.get_by_label("Preset").select_option(HALF.name)
    expect(said).to_have_text(f"{HALF.description} The fields are filled in and can be changed.")


@pytest.mark.parametrize("button", ["Check", "Start"])
def test_a_model_of_no_known_family_is_refused_in_one_sentence(
    web: Watched, redis: Redis, tmp_path: Path, button: str
) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"architectures": ["GPT2LMHeadModel"]}))
    Registry(redis).put_model(
        original().model_copy(update={"name": "other", "path": str(tmp_path)})
    )
    refuse(web, redis, "other", button)
    expect(web.page.get_by_role("alert")).to_contain_text(
        "The model 'other' cannot be compressed: Architecture GPT2LMHeadModel has no family; "
        "supported: LlavaForConditionalGeneration"
    )


def test_a_model_without_a_checkpoint_here_is_refused_in_one_sentence(
    web: Watched, redis: Redis
) -> None:
    Registry(redis).put_model(served_elsewhere("far"))
    refuse(web, redis, "far", "Start")
    expect(web.page.get_by_role("alert")).to_contain_text("no checkpoint of it is known here")


def refuse(web: Watched, redis: Redis, model: str, button: str) -> None:
    """Ask for a model that cannot be compressed; nothing is queued."""
    page = web.go("compress")
    page.get_by_label("Model", exact=True).select_option(model)  # waits until it is there
    page.get_by_role("button", name=button).click()
    expect(page.get_by_role("alert")).to_be_visible()
    web.expect_fault("400")
    assert JobQueue(redis, job_timeout_s=60).list() == []
