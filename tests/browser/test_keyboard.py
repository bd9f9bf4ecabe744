"""A task of each page by the keyboard alone: no pointer is moved, nothing is focused by a script."""

from __future__ import annotations

from pathlib import Path

from playwright.sync_api import Locator, Page, expect
from redis import Redis

from service.gateway.recipes import PRESETS
from service.jobs.records import JobRecords
from tests.browser.conftest import COMPRESSED, ORIGINAL, Watched, change
from tests.support.http import call

MOST_STOPS = 80


def tab_to(page: Page, wanted: Locator, key: str = "Tab") -> Locator:
    """Press Tab until it is there and its focus is seen; an assertion error where it never is."""
    expect(wanted).to_have_count(1)
    passed: list[str] = []
    for _ in range(MOST_STOPS):
        if wanted.evaluate("element => element === document.activeElement"):
            assert page.evaluate("() => document.activeElement.matches(':focus-visible')")
            return wanted
        page.keyboard.press(key)
        passed.append(page.evaluate("() => document.activeElement.outerHTML.slice(0, 60)"))
    raise AssertionError(f"{key} never reached {wanted}: {passed}")


def press_on(page: Page, wanted: Locator, key: str = "Enter", *, back: bool = False) -> None:
    """Go there and press a key."""
    tab_to(page, wanted, "Shift+Tab" if back else "Tab")
    page.keyboard.press(key)


def open_page(web: Watched, name: str) -> Page:
    """From Compare by its link."""
    page = web.go("compare")
    expect(page.get_by_role("heading", name="Numbers")).to_be_visible()
    press_on(page, page.get_by_role("link", name=name, exact=True))
    expect(page.get_by_role("heading", name=name, level=1)).to_be_visible()
    return page


def test_a_question_about_a_picture_is_asked_by_keyboard(web: Watched, picture: Path) -> None:
    page = open_page(web, "Playground")
    tab_to(page, page.get_by_label("Picture"))
    ring = page.locator(".drop").evaluate("element => getComputedStyle(element).outlineStyle")
    assert ring == "solid", "the field is hidden: its label shows the focus"
    chooser = page.evaluate_handle("() => document.activeElement").as_element()
    assert chooser is not None
    chooser.set_input_files(picture)
    expect(page.get_by_role("img", name="The chosen picture, red.png")).to_be_visible()

    tab_to(page, page.get_by_label("Question"))
    page.keyboard.type("Is it red?")
    press_on(page, page.get_by_role("button", name="Ask both"))
    for name in (ORIGINAL, COMPRESSED):
        answer = page.get_by_role("region", name=f"Answer of {name}", exact=True)
        expect(answer.locator("[aria-live=polite]")).to_have_text("yes")
    expect(page.get_by_role("status")).to_contain_text("The answers are the same")


def test_a_job_is_chosen_started_and_watched_by_keyboard(web: Watched, redis: Redis) -> None:
    page = open_page(web, "Compress")
    chosen = tab_to(page, page.get_by_label("Preset"))
    for preset in PRESETS[:2]:
        page.keyboard.press("ArrowDown")
        expect(chosen).to_have_value(preset.name)
        expect(page.locator("#preset-said")).to_contain_text(preset.description)
    page.keyboard.press("ArrowUp")
    tab_to(page, page.get_by_label("Share of FLOPs to keep"))
    page.keyboard.press("Control+A")
    page.keyboard.type("0.4")
    press_on(page, page.get_by_label("drawn-text").first, "Space")
    press_on(page, page.get_by_role("button", name="Start"))

    job = page.get_by_role("region", name=f"{ORIGINAL}-flops0.4")
    expect(job).to_contain_text("Waits for a runner.")
    records = JobRecords(redis)
    [record] = records.list()
    assert record.recipe["calibration"]["datasets"] == ["easy-vqa", "drawn-text"]
    token = records.claim(record.id)
    assert token is not None
    records.log(record.id, "stage prune")
    records.progress(record.id, token, "prune", 40.0, 12.0)
    expect(job).to_contain_text("prune, 40 %, 12 s left")
    now = job.get_by_role("list", name="Stages").locator("[aria-current=step]")
    expect(now).to_have_text("prune")
    records.end(record.id, "failed", token=token, error="The disk is full.")
    expect(job.get_by_role("alert")).to_have_text("The disk is full.")
    press_on(page, job.get_by_text("Log, 1 lines"), back=True)
    expect(job.get_by_text("stage prune")).to_be_visible()
    press_on(page, job.get_by_role("button", name="Close"), back=True)
    expect(job).to_have_count(0)


def test_a_job_is_cancelled_by_keyboard(web: Watched) -> None:
    page = open_page(web, "Compress")
    press_on(page, page.get_by_role("button", name="Start"))
    job = page.get_by_role("region", name=f"{ORIGINAL}-flops0.5")
    expect(job).to_contain_text("Waits for a runner.")
    press_on(page, job.get_by_role("button", name="Cancel…"), back=True)
    dialog = page.get_by_role("dialog")
    press_on(page, dialog.get_by_role("button", name="Cancel the job"))
    expect(job.get_by_text("cancelled", exact=True)).to_be_visible()


def test_a_lineage_and_its_report_are_opened_by_keyboard(finished: str, web: Watched) -> None:
    page = open_page(web, "Models")
    card = page.get_by_role("article", name=COMPRESSED)
    plan = card.get_by_text("9f" * 32)
    expect(plan).to_be_hidden()
    press_on(page, card.get_by_text("Recipe and plan"))
    expect(plan).to_be_visible()
    expect(card.get_by_text('"flops": 0.5')).to_be_visible()
    tab_to(page, card.get_by_role("link", name=finished))
    press_on(page, card.get_by_role("button", name="Report"), back=True)
    shown = page.frame_locator(f"iframe[title='Report of {COMPRESSED}']")
    expect(shown.get_by_role("heading", name="Cost")).to_be_visible()
    press_on(page, card.get_by_role("button", name="Hide report"))
    expect(page.locator("iframe")).to_have_count(0)


def canary_by_keyboard(web: Watched) -> Page:
    """Compare, where a canary on `prod` is chosen by the arrow keys."""
    begun = {"candidate": COMPRESSED, "original": ORIGINAL, "steps": [5, 100]}
    change("POST", f"{web.url}/aliases/prod/canary", begun)
    page = web.go(f"compare?of={ORIGINAL}%3E{COMPRESSED}")
    rollout = page.get_by_role("region", name="Roll-out of prod")
    chosen = tab_to(page, page.get_by_label("Models", exact=True))
    expect(rollout).to_have_count(0)
    page.keyboard.press("ArrowUp")
    expect(chosen).to_have_value("alias:prod")
    expect(rollout).to_contain_text(f"{COMPRESSED} answers 5 %")
    return page


def test_a_canary_is_rolled_back_by_keyboard(web: Watched) -> None:
    page = canary_by_keyboard(web)
    button = page.get_by_role("button", name="Roll back…")
    press_on(page, button)
    dialog = page.get_by_role("dialog", name="Roll back prod?")
    tab_to(page, dialog.get_by_label("Why, for the history"))
    page.keyboard.press("Escape")
    expect(dialog).to_have_count(0)
    expect(button).to_be_focused()

    page.keyboard.press("Enter")
    tab_to(page, dialog.get_by_label("Why, for the history"))
    page.keyboard.type("slow on Mondays")
    press_on(page, dialog.get_by_role("button", name="Roll back"))
    expect(page.get_by_role("status").first).to_have_text("prod was rolled back.")
    expect(page.get_by_text("Rolled back by hand: slow on Mondays")).to_be_visible()
    shown = call("GET", f"{web.url}/aliases/prod").json()["alias"]
    assert (shown["canary"], [each["model"] for each in shown["targets"]]) == (None, [ORIGINAL])


def test_a_candidate_is_promoted_by_keyboard(web: Watched) -> None:
    page = canary_by_keyboard(web)
    press_on(page, page.get_by_role("button", name="Promote…"))
    dialog = page.get_by_role("dialog", name=f"Promote {COMPRESSED}?")
    press_on(page, dialog.get_by_role("button", name="Promote"))
    expect(page.get_by_role("status").first).to_contain_text(f"{COMPRESSED} answers everything")
    shown = call("GET", f"{web.url}/aliases/prod").json()["alias"]
    assert [each["model"] for each in shown["targets"]] == [COMPRESSED]
