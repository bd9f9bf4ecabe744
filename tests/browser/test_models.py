"""Models: lineage, retire and delete, and the aliases."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect
from redis import Redis

from service.registry import Registry, WorkerState
from tests.browser.conftest import COMPRESSED, ORIGINAL, Watched, change


def test_a_compressed_model_stands_under_its_original(web: Watched) -> None:
    page = web.go("models")
    child = page.get_by_role("listitem").filter(
        has=page.get_by_role("article", name=ORIGINAL, exact=True)
    )
    card = child.get_by_role("article", name=COMPRESSED)
    expect(card).to_contain_text("0.50 of shapes's")
    expect(card.get_by_role("row", name="easy-vqa")).to_contain_text("-0.4 [-1.2, +0.4]")
    card.get_by_text("Recipe and plan").click()
    expect(card).to_contain_text("9f9f9f")
    card.get_by_role("link", name="Compare").click()
    expect(page.get_by_role("heading", name="Numbers")).to_be_visible()


def test_a_worker_that_failed_says_why(web: Watched, redis: Redis) -> None:
    Registry(redis).put_worker(
        WorkerState(id="w1", model=COMPRESSED, url="http://x", status="backoff", restarts=3,
                    error="The engine ended with exit code 1.")
    )  # fmt: skip
    page = web.go("models")
    workers = page.get_by_role("article", name=COMPRESSED).get_by_role("list", name="Workers")
    expect(workers).to_contain_text("backoff")
    expect(workers).to_contain_text("3 restarts")
    expect(workers).to_contain_text("The engine ended with exit code 1.")


@pytest.mark.usefixtures("gateway")
def test_a_model_is_retired_and_then_deleted(web: Watched) -> None:
    page = web.go("models")
    card = page.get_by_role("article", name=COMPRESSED)
    card.get_by_role("button", name="Retire…").click()
    page.get_by_role("dialog").get_by_role("button", name="Retire").click()
    expect(page.get_by_role("status").first).to_contain_text("is being retired")
    card.get_by_role("button", name="Delete…").click()
    page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    expect(card).to_have_count(0)


def test_an_alias_is_made_changed_and_deleted(web: Watched) -> None:
    page = web.go("models")
    expect(page.get_by_text("No alias yet")).to_be_visible()
    page.get_by_role("button", name="New alias…").click()
    dialog = page.get_by_role("dialog", name="New alias")
    dialog.get_by_label("Alias").fill("prod")
    dialog.get_by_label("Models").fill(f"{ORIGINAL}=9, {COMPRESSED}=1")
    dialog.get_by_role("button", name="Save").click()
    row = page.get_by_role("row", name="prod")
    expect(row).to_contain_text(f"{ORIGINAL}=9, {COMPRESSED}=1")

    row.get_by_role("button", name="Change who answers prod").click()
    page.get_by_role("dialog").get_by_label("Models").fill(ORIGINAL)
    page.get_by_role("dialog").get_by_role("button", name="Save").click()
    row.get_by_role("button", name="Start a shadow of prod").click()
    page.get_by_role("dialog").get_by_role("button", name="Start copying").click()
    expect(row).to_contain_text(f"{COMPRESSED}, 25 %")
    row.get_by_role("button", name="Stop the shadow of prod").click()
    page.get_by_role("dialog").get_by_role("button", name="Stop copying").click()
    row.get_by_role("button", name="Start a canary on prod").click()
    page.get_by_role("dialog").get_by_label("Steps").fill("5, 100")
    page.get_by_role("dialog").get_by_role("button", name="Start canary").click()
    expect(row).to_contain_text(f"{COMPRESSED}, 5 %")
    row.get_by_role("button", name="History of prod").click()
    expect(page.get_by_role("dialog")).to_contain_text(f"canary {COMPRESSED}, by web page")
    page.keyboard.press("Escape")
    change("DELETE", f"{web.url}/aliases/prod/canary")

    row.get_by_role("button", name="Delete prod").click()
    page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    expect(page.get_by_text("No alias yet")).to_be_visible()


def test_a_model_in_use_is_not_retired(gateway: str, web: Watched) -> None:
    change("PUT", f"{gateway}/aliases/prod", {"targets": [{"model": ORIGINAL}]})
    page = web.go("models")
    page.get_by_role("article", name=ORIGINAL, exact=True).get_by_role(
        "button", name="Retire…"
    ).click()
    page.get_by_role("dialog").get_by_role("button", name="Retire").click()
    expect(page.get_by_role("alert")).to_contain_text("prod")
    web.expect_fault("409")
