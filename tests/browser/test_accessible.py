"""Every page, in every theme and on a phone: nothing serious by axe, no overflow, keys suffice."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Frame, Page, expect

from deploy.vendor_web import FOR_TESTS
from tests.browser.conftest import COMPRESSED, ORIGINAL, Watched, change
from tests.support.http import call, chat

PAGES = {"compare": "Numbers", "playground": "Playground", "compress": "Jobs", "models": "Lineage"}
PHONE = {"width": 360, "height": 740}


@pytest.fixture
def busy(gateway: str) -> str:
    """The gateway's URL: an alias with a canary, a waiting job, answered requests."""
    change("PUT", f"{gateway}/aliases/prod", {"targets": [{"model": ORIGINAL}]})
    canary = {"candidate": COMPRESSED, "mirror": 1.0}
    change("POST", f"{gateway}/aliases/prod/canary", canary)
    change("POST", f"{gateway}/compress", {"model": ORIGINAL, "recipe": {"flops": 0.4}})
    for model in ("prod", ORIGINAL, COMPRESSED):
        call("POST", f"{gateway}/v1/chat/completions", chat(model=model, stream=True))
    return gateway


def serious(page: Page | Frame) -> list[Any]:
    """axe-core's findings that keep people out."""
    page.evaluate((FOR_TESTS / "axe-core" / "axe.min.js").read_text())
    found = page.evaluate("() => axe.run(document, {resultTypes: ['violations']})")
    return [
        (each["id"], each["help"], [node["html"][:200] for node in each["nodes"]])
        for each in found["violations"]
        if each["impact"] in {"serious", "critical"}
    ]


def wide(page: Page) -> Any:
    """What sticks out to the right; empty where the page does not scroll sideways."""
    return page.evaluate("""() => document.documentElement.scrollWidth <= innerWidth ? []
      : [...document.querySelectorAll("*")].filter(e => e.getBoundingClientRect().right > innerWidth)
          .map(e => e.outerHTML.slice(0, 120))""")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious_on_any_page(
    busy: str, watch: Callable[..., Watched], scheme: str
) -> None:
    web = watch(busy, color_scheme=scheme, reduced_motion="reduce")
    for path, heading in PAGES.items():
        page = web.go(path)
        expect(page.get_by_role("heading", name=heading)).to_be_visible()
        assert serious(page) == [], path
    page.get_by_role("button", name="New alias…").click()
    assert serious(page) == [], "the dialog"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious_beside_the_answers(
    gateway: str, watch: Callable[..., Watched], picture: Path, scheme: str
) -> None:
    web = watch(gateway, color_scheme=scheme, reduced_motion="reduce")
    page = web.go("playground")
    page.get_by_label("Picture").set_input_files(picture)
    for question in ("Is it red?", "please break"):
        page.get_by_label("Question").fill(question)
        page.get_by_role("button", name="Ask both").click()
        expect(page.locator("[aria-busy=true]")).to_have_count(0)
        assert serious(page) == [], question
    expect(page.get_by_role("alert")).to_have_count(2)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious_in_a_job_and_in_its_report(
    finished: str, gateway: str, watch: Callable[..., Watched], scheme: str
) -> None:
    web = watch(gateway, color_scheme=scheme, reduced_motion="reduce")
    page = web.go(f"compress?job={finished}")
    page.get_by_label("Preset").select_option(index=1)
    job = page.get_by_role("region", name=COMPRESSED)
    expect(job.get_by_role("row", name="FLOPs before the first token")).to_be_visible()
    for summary in ("Recipe", "Log, 1 lines"):
        page.get_by_text(summary, exact=True).click()
    job.get_by_role("button", name="Show report").click()
    check_report(page, scheme)
    page.get_by_role("button", name="Check").click()
    expect(page.get_by_text("would be compressed to")).to_be_visible()
    assert serious(page) == [], "the job's page"

    page = web.go("models")
    card = page.get_by_role("article", name=COMPRESSED)
    card.get_by_text("Recipe and plan").click()
    card.get_by_role("button", name="Report").click()
    check_report(page, scheme)
    assert serious(page) == [], "the model's card"


def check_report(page: Page, scheme: str) -> None:
    """The report is shown in its frame, in the theme asked for, and axe finds nothing in it."""
    shown = page.frame_locator("iframe.report")
    expect(shown.get_by_role("heading", name="Accuracy")).to_be_visible()
    [frame] = [each for each in page.frames if each.url.endswith("/ui/report.html")]
    ground = frame.evaluate("() => getComputedStyle(document.body).backgroundColor")
    assert ground == {"light": "rgb(255, 255, 255)", "dark": "rgb(18, 22, 28)"}[scheme]
    frame.evaluate("() => document.querySelectorAll('details').forEach(each => each.open = true)")
    assert serious(frame) == [], "the report"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_sign_in_is_accessible(locked: str, watch: Callable[..., Watched], scheme: str) -> None:
    page = watch(locked, color_scheme=scheme).go("")
    expect(page.get_by_label("API key")).to_be_visible()
    assert serious(page) == []


def test_nothing_is_wider_than_a_phone(busy: str, watch: Callable[..., Watched]) -> None:
    web = watch(busy, viewport=PHONE, has_touch=True)
    for path, heading in PAGES.items():
        page = web.go(path)
        expect(page.get_by_role("heading", name=heading)).to_be_visible()
        page.evaluate(
            "() => document.querySelectorAll('details').forEach(each => each.open = true)"
        )
        assert wide(page) == [], path
    page.get_by_role("button", name="Start a canary").or_(
        page.get_by_role("button", name="New alias…")
    ).first.click()
    assert wide(page) == [], "the dialog"


def test_the_keyboard_reaches_everything_and_focus_is_seen(busy: str, web: Watched) -> None:
    del busy
    page = web.go("compare")
    expect(page.get_by_role("heading", name="Numbers")).to_be_visible()
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to content")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.get_by_role("main")).to_be_focused()
    page.keyboard.press("Tab")
    expect(page.get_by_label("Models", exact=True)).to_be_focused()
    ring = page.evaluate("() => getComputedStyle(document.activeElement).outlineStyle")
    assert ring == "solid"
    for landmark in ("banner", "main", "navigation", "contentinfo"):
        expect(page.get_by_role(landmark)).to_have_count(1)


def test_the_theme_is_chosen_and_kept(gateway: str, watch: Callable[..., Watched]) -> None:
    web = watch(gateway, color_scheme="light")
    page = web.go("models")
    ground = "() => getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(ground)
    page.get_by_role("button", name="Dark theme").click()
    assert page.evaluate(ground) != light
    page.reload()
    assert page.evaluate(ground) != light
    page.get_by_role("button", name="Light theme").click()
    assert page.evaluate(ground) == light


def test_without_motion_nothing_blinks(gateway: str, watch: Callable[..., Watched]) -> None:
    page = watch(gateway, reduced_motion="reduce").go("compare")
    expect(page.get_by_role("heading", name="Compare")).to_be_visible()
    moving = page.evaluate("() => document.getAnimations().length")
    assert json.loads(json.dumps(moving)) == 0
