"""Compare: headline, numbers, curves; and a roll-out watched, promoted and rolled back."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page, Route, expect
from redis import Redis

from service.registry import Registry
from tests.browser.conftest import COMPRESSED, ORIGINAL, Watched, change, compressed
from tests.support.http import call, chat
from tests.support.servers import wait_until

CHARTS = ("Latency", "Time to first token", "Requests per second", "Tokens per second")
PIXELS = """(chart, name) => {
  const drawn = chart.querySelector("canvas");
  const { width, height } = drawn;
  const copy = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true });
  copy.drawImage(drawn, 0, 0);
  const wanted = getComputedStyle(chart).getPropertyValue(name).match(/[\\d.]+/g).map(Number);
  const { data } = copy.getImageData(0, 0, width, height);
  let found = 0;
  for (let i = 0; i < data.length; i += 4) {
    const off = wanted.slice(0, 3).reduce((sum, each, j) => sum + Math.abs(each - data[i + j]), 0);
    if (data[i + 3] > 200 && off < 20) found += 1;
  }
  return found;
}"""
"""Counts a canvas's pixels of a colour; in a copy, as Chromium warns of reading the one drawn to."""


def pixels(page: Page, chart: str, side: str) -> int:
    """How many pixels of a chart have the colour of a model's curves."""
    return int(page.get_by_role("img", name=chart).evaluate(PIXELS, f"--{side}-drawn"))


def ask(url: str, model: str, times: int = 5) -> None:
    for _ in range(times):
        body = chat(model=model, temperature=0, stream=True)
        assert call("POST", f"{url}/v1/chat/completions", body).status == 200


@pytest.fixture
def prod(gateway: str) -> str:
    """The gateway's URL; its alias `prod` is answered by the original and copied to the compressed."""
    targets = {"targets": [{"model": ORIGINAL}]}
    change("PUT", f"{gateway}/aliases/prod", targets)
    shadow = {"candidate": COMPRESSED, "share": 1.0}
    change("POST", f"{gateway}/aliases/prod/shadow", shadow)
    return gateway


def test_what_the_smaller_model_gains_and_costs_comes_first(web: Watched) -> None:
    ask(web.url, ORIGINAL)
    ask(web.url, COMPRESSED)
    page = web.go("")
    headline = page.get_by_role("region", name="Headline")
    expect(headline).to_contain_text("2.00xfewer FLOPs before the first token")
    expect(headline).to_contain_text("1.90xfewer parameters")
    expect(headline).to_contain_text("-0.4points of accuracyeasy-vqa: -1.2 to +0.4 at 95 %")
    numbers = page.get_by_role("table")
    answered = numbers.get_by_role("row", name="answered, failed")
    expect(answered).to_contain_text("5, 05, 0")
    expect(numbers.get_by_role("row", name="latency, p50")).to_contain_text("ms")
    expect(numbers.get_by_role("row", name="easy-vqa")).to_contain_text("0.990 [0.980, 1.000]")
    for chart in CHARTS:
        expect(page.get_by_role("img", name=chart).locator("canvas")).to_be_visible()


def test_curves_are_drawn_of_what_was_asked_and_of_nothing_else(web: Watched) -> None:
    page = web.go("")
    for chart in CHARTS:
        expect(page.get_by_role("img", name=chart).locator("canvas")).to_be_visible()
    for chart in ("Latency", "Time to first token"):
        assert [pixels(page, chart, side) for side in ("original", "compressed")] == [0, 0], chart
    for _ in range(4):  # a curve needs two readings of requests, 5 s apart
        ask(web.url, ORIGINAL, times=5)
        ask(web.url, COMPRESSED, times=1)
        page.wait_for_timeout(3000)
    for chart in CHARTS:
        # The fake engine takes equally long for both: one curve may lie on the other.
        wait_for_curve(page, chart, "compressed")
    for chart in ("Requests per second", "Tokens per second"):
        wait_for_curve(page, chart, "original")


def wait_for_curve(page: Page, chart: str, side: str) -> None:
    """Let the page go on until a model's curve is drawn."""
    for _ in range(100):
        if pixels(page, chart, side) > 20:
            return
        page.wait_for_timeout(300)
    raise AssertionError(f"no curve of {side} in {chart}")


def test_an_answer_that_comes_late_is_not_shown_under_a_newer_choice(
    web: Watched, redis: Redis
) -> None:
    small = compressed().model_copy(update={"name": "shapes-tenth", "params": 1_406_106})
    Registry(redis).put_model(small)
    page = web.go(f"compare?of={ORIGINAL}%3E{COMPRESSED}")
    headline = page.get_by_role("region", name="Headline")
    expect(headline).to_contain_text("1.90xfewer parameters")
    held: list[Route] = []
    path = f"**/comparison?*compressed={COMPRESSED}&*"

    def hold(route: Route) -> None:
        held.append(route)

    page.route(path, hold)
    with page.expect_request(path):
        page.get_by_label("Live numbers of the last").select_option("15 minutes")

    models = page.get_by_label("Models", exact=True)
    models.select_option(f"{ORIGINAL}>{small.name}")
    expect(headline).to_contain_text("10.00xfewer parameters")  # nobody waits for the answer before
    for route in held:
        route.continue_()
    for _ in range(2):  # the next turns, too
        with page.expect_response(f"**/comparison?*compressed={small.name}&*"):
            pass
        expect(headline).to_contain_text("10.00xfewer parameters")
    expect(models).to_have_value(f"{ORIGINAL}>{small.name}")


def test_a_shadows_agreement_is_shown(prod: str, web: Watched) -> None:
    ask(prod, "prod", times=8)
    page = web.go("compare?of=alias%3Aprod")
    headline = page.get_by_role("region", name="Headline")
    expect(headline).to_contain_text("agreement in shadow")
    expect(headline).to_contain_text("8 pairs")
    expect(page.get_by_role("region", name="Roll-out of prod")).to_contain_text(
        f"100 % of the requests are copied to {COMPRESSED}"
    )


def test_a_canary_is_started_and_rolled_back_with_the_keyboard(prod: str, web: Watched) -> None:
    page = web.go("compare?of=alias%3Aprod")
    page.get_by_role("button", name="Start canary…").press("Enter")
    dialog = page.get_by_role("dialog", name="Canary on prod")
    dialog.get_by_label("Steps, % of the requests").fill("5, 100")
    page.keyboard.press("Enter")

    steps = page.get_by_role("list", name="Steps of the canary")
    expect(steps.get_by_text("5 %", exact=True)).to_have_attribute("aria-current", "step")
    expect(page.get_by_role("region", name="Roll-out of prod")).to_contain_text("0 of 200 answers")

    page.get_by_role("button", name="Roll back…").press("Enter")
    dialog = page.get_by_role("dialog", name="Roll back prod?")
    page.keyboard.press("Escape")
    expect(dialog).to_have_count(0)
    assert call("GET", f"{prod}/aliases/prod").json()["alias"]["canary"], "Escape does nothing"

    page.get_by_role("button", name="Roll back…").press("Enter")
    dialog.get_by_label("Why, for the history").fill("slow on Mondays")
    dialog.get_by_role("button", name="Roll back").press("Enter")
    expect(page.get_by_role("status").first).to_have_text("prod was rolled back.")
    expect(page.get_by_text("The last canary")).to_contain_text(
        "Rolled back by hand: slow on Mondays"
    )
    history = call("GET", f"{prod}/aliases/prod/history").json()["data"]
    assert (history[0]["why"], history[0]["who"]) == ("slow on Mondays", "web page")


def test_the_candidate_is_promoted_after_a_confirmation(prod: str, web: Watched) -> None:
    page = web.go("compare?of=alias%3Aprod")
    page.get_by_role("button", name="Promote…").click()
    page.get_by_role("dialog").get_by_role("button", name="Promote").click()
    expect(page.get_by_role("status").first).to_contain_text(f"{COMPRESSED} answers everything")
    wait_until(
        lambda: (
            [t["model"] for t in call("GET", f"{prod}/aliases/prod").json()["alias"]["targets"]]
            == [COMPRESSED]
        )
    )


def test_without_a_compressed_model_it_says_what_to_do(gateway: str, web: Watched) -> None:
    change("POST", f"{gateway}/models/{COMPRESSED}/retire", {})
    wait_until(lambda: call("DELETE", f"{gateway}/models/{COMPRESSED}").status == 200)
    page = web.go("compare")
    expect(page.get_by_text("There is no compressed model yet")).to_be_visible()
    page.get_by_role("link", name="Compress one").click()
    expect(page.get_by_role("heading", name="New job")).to_be_visible()
