"""Playground: a picture, a question, two streamed answers; and what is said when something fails."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from playwright.sync_api import Page, expect
from redis import Redis

from service.registry import Registry, WorkerState
from service.settings import Settings
from tests.browser.conftest import COMPRESSED, ORIGINAL, Watched
from tests.support.servers import gateway_within


def ask(page: Page, question: str) -> None:
    page.get_by_label("Question").fill(question)
    page.get_by_role("button", name="Ask both").press("Enter")


def test_both_models_answer_side_by_side(web: Watched, picture: Path) -> None:
    page = web.go("playground")
    page.get_by_label("Picture").set_input_files(picture)
    expect(page.get_by_role("img", name="The chosen picture, red.png")).to_be_visible()
    ask(page, "Is it red?")
    for name in (ORIGINAL, COMPRESSED):
        answer = page.get_by_role("region", name=f"Answer of {name}", exact=True)
        expect(answer.locator("[aria-live=polite]")).to_have_text("yes")
        expect(answer.locator("[aria-live=polite]")).to_have_attribute("aria-busy", "false")
        expect(answer).to_contain_text("first token")
        assert answer.get_by_text(" ms").count() + answer.get_by_text(" s").count() >= 2
    expect(page.get_by_role("status")).to_contain_text("The answers are the same")


def test_a_picture_is_dropped_or_pasted(web: Watched) -> None:
    page = web.go("playground")
    drop = page.locator(".drop")
    expect(drop).to_be_visible()
    script = """name => {
      const canvas = document.createElement("canvas");
      canvas.width = canvas.height = 8;
      return new Promise(done => canvas.toBlob(blob => {
        const data = new DataTransfer();
        data.items.add(new File([blob], name, {type: "image/png"}));
        done(data);
      }));
    }"""
    dropped = page.evaluate_handle(script, "dropped.png")
    drop.dispatch_event("drop", {"dataTransfer": dropped})
    expect(page.get_by_role("img", name="dropped.png")).to_be_visible()
    pasted = page.evaluate_handle(script, "pasted.png")
    page.evaluate(
        "data => document.dispatchEvent(new ClipboardEvent('paste', {clipboardData: data}))", pasted
    )
    expect(page.get_by_role("img", name="pasted.png")).to_be_visible()


def test_too_large_a_picture_is_refused_with_the_limit(web: Watched, tmp_path: Path) -> None:
    large = tmp_path / "large.png"
    large.write_bytes(b"\x89PNG" + bytes(400_000))
    page = web.go("playground")
    page.get_by_label("Picture").set_input_files(large)
    expect(page.get_by_role("alert")).to_have_text(
        "The picture has 0.4 MB, but this gateway takes at most 0.2 MB; choose a smaller one."
    )


def test_a_worker_that_dies_in_its_answer_is_told_beside_what_it_said(web: Watched) -> None:
    page = web.go("playground")
    ask(page, "please break")
    answer = page.get_by_role("region", name=f"Answer of {ORIGINAL}", exact=True)
    expect(answer.get_by_role("alert")).to_have_text(
        f"The worker of model '{ORIGINAL}' broke off; try again."
    )
    expect(answer.locator("[aria-live=polite]")).to_have_text("y")


def test_what_the_engine_refuses_is_told(web: Watched) -> None:
    page = web.go("playground")
    ask(page, "reject this")
    expect(page.get_by_role("alert")).to_have_text(["too long", "too long"])
    web.expect_fault("400")


def test_a_model_whose_worker_starts_says_so(web: Watched, redis: Redis) -> None:
    Registry(redis).put_worker(
        WorkerState(id="w1", model=COMPRESSED, url="http://127.0.0.1:9", status="starting")
    )
    page = web.go("models")
    expect(page.get_by_role("article", name=COMPRESSED)).to_contain_text("not ready")
    page.get_by_role("link", name="Playground").click()
    ask(page, "red?")
    answer = page.get_by_role("region", name=f"Answer of {COMPRESSED}")
    expect(answer.get_by_role("alert")).to_contain_text(
        f"No worker of model '{COMPRESSED}' is ready"
    )
    web.expect_fault("503")


def test_a_gateway_that_drains_ends_the_answer_in_a_sentence(
    settings: Settings, models: None, watch: Callable[..., Watched]
) -> None:
    del models
    with gateway_within(settings):
        web = watch(settings.gateway_url)
        page = web.go("playground")
        expect(page.get_by_label("Second model")).to_have_value(COMPRESSED)
    ask(page, "red?")
    for name in (ORIGINAL, COMPRESSED):
        answer = page.get_by_role("region", name=f"Answer of {name}", exact=True)
        expect(answer.get_by_role("alert")).to_contain_text("The gateway cannot be reached")
    page.goto("about:blank")  # the page looks for models again and again
    web.expect_fault("ERR_CONNECTION_REFUSED")
