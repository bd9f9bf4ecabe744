"""A task of each page on a phone: 360 pixels wide, by touch."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Locator, expect
from redis import Redis

from service.gateway.recipes import PRESETS
from service.jobs.queue import JobQueue
from tests.browser.conftest import COMPRESSED, ORIGINAL, Watched, change
from tests.browser.test_accessible import PHONE, wide
from tests.support.http import call

LEAST_PX = 24
"""Of a target's height and width (WCAG 2.2, 2.5.8)."""


@pytest.fixture
def phone(gateway: str, watch: Callable[..., Watched]) -> Watched:
    return watch(gateway, viewport=PHONE, has_touch=True, is_mobile=True, device_scale_factor=2)


def tap(target: Locator) -> None:
    """Tap what is large enough to be hit, and is not beside the screen."""
    target.scroll_into_view_if_needed()
    box = target.bounding_box()
    assert box is not None
    assert min(box["width"], box["height"]) >= LEAST_PX, box
    assert box["x"] >= 0, box
    assert box["x"] + box["width"] <= PHONE["width"], box
    target.tap()


def test_a_canary_is_judged_by_its_ratios_and_rolled_back(gateway: str, phone: Watched) -> None:
    begun = {"candidate": COMPRESSED, "original": ORIGINAL, "steps": [5, 100]}
    change("POST", f"{gateway}/aliases/prod/canary", begun)
    page = phone.go("compare?of=alias%3Aprod")
    headline = page.get_by_role("region", name="Headline")
    gain = headline.get_by_text("2.00x")
    expect(gain).to_be_in_viewport()  # before anything is scrolled
    expect(headline.get_by_text("-0.4", exact=True)).to_be_in_viewport()

    tap(page.get_by_role("button", name="Roll back…"))
    dialog = page.get_by_role("dialog", name="Roll back prod?")
    expect(dialog.get_by_label("Why, for the history")).to_be_in_viewport()
    tap(dialog.get_by_label("Why, for the history"))
    dialog.get_by_label("Why, for the history").fill("seen on the train")
    tap(dialog.get_by_role("button", name="Roll back"))
    expect(page.get_by_role("status").first).to_have_text("prod was rolled back.")
    shown = call("GET", f"{gateway}/aliases/prod").json()["alias"]
    assert (shown["canary"], [each["model"] for each in shown["targets"]]) == (None, [ORIGINAL])
    assert wide(page) == []


def test_a_candidate_is_promoted(gateway: str, phone: Watched) -> None:
    begun = {"candidate": COMPRESSED, "original": ORIGINAL}
    change("POST", f"{gateway}/aliases/prod/canary", begun)
    page = phone.go("compare?of=alias%3Aprod")
    tap(page.get_by_role("button", name="Promote…"))
    tap(page.get_by_role("dialog").get_by_role("button", name="Promote"))
    expect(page.get_by_role("status").first).to_contain_text(f"{COMPRESSED} answers everything")
    shown = call("GET", f"{gateway}/aliases/prod").json()["alias"]
    assert [each["model"] for each in shown["targets"]] == [COMPRESSED]


def test_a_question_is_asked_and_both_answers_are_read(phone: Watched, picture: Path) -> None:
    page = phone.go("playground")
    with page.expect_file_chooser() as chooser:
        tap(page.locator(".drop"))
    chooser.value.set_files(picture)
    expect(page.get_by_role("img", name="The chosen picture, red.png")).to_be_visible()
    tap(page.get_by_label("Question"))
    page.get_by_label("Question").fill("Is it red?")
    tap(page.get_by_role("button", name="Ask both"))
    tops = []
    for name in (ORIGINAL, COMPRESSED):
        answer = page.get_by_role("region", name=f"Answer of {name}", exact=True)
        expect(answer.locator("[aria-live=polite]")).to_have_text("yes")
        box = answer.bounding_box()
        assert box is not None
        assert box["width"] >= 0.8 * PHONE["width"], "one below the other"
        tops.append(box["y"])
    assert tops[0] < tops[1]
    expect(page.get_by_role("status")).to_contain_text("The answers are the same")
    assert wide(page) == []


def test_a_job_is_started_from_a_preset(phone: Watched, redis: Redis) -> None:
    page = phone.go("compress")
    preset = page.get_by_label("Preset")
    tap(preset)
    page.keyboard.press("Escape")  # the browser's own list, which a script cannot tap
    preset.select_option(PRESETS[0].name)
    expect(page.get_by_text(PRESETS[0].description)).to_be_in_viewport()
    tap(page.get_by_role("button", name="Start"))
    expect(page.get_by_text(f"{ORIGINAL}-flops0.5 is queued as job")).to_be_in_viewport()
    job = page.get_by_role("region", name=f"{ORIGINAL}-flops0.5")
    expect(job).to_contain_text("Waits for a runner.")
    assert [each.name for each in JobQueue(redis, job_timeout_s=60).list()] == [
        f"{ORIGINAL}-flops0.5"
    ]
    assert wide(page) == []


def test_a_lineage_is_read(phone: Watched) -> None:
    page = phone.go("models")
    parent = page.get_by_role("article", name=ORIGINAL, exact=True)
    card = page.get_by_role("article", name=COMPRESSED)
    expect(card).to_contain_text("0.50 of shapes's")
    boxes = [parent.bounding_box(), card.bounding_box()]
    assert boxes[0] is not None
    assert boxes[1] is not None
    assert boxes[0]["x"] < boxes[1]["x"], "what was compressed is set in"
    assert boxes[0]["y"] < boxes[1]["y"]
    tap(card.get_by_text("Recipe and plan"))
    plan = card.get_by_text("9f" * 32)
    plan.scroll_into_view_if_needed()
    expect(plan).to_be_in_viewport(ratio=1)
    assert wide(page) == []
