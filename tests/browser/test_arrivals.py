"""Models that arrive while a page is open: it notices, and leaves alone what its user did."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import Locator, Page, Route, expect
from redis import Redis

from service.registry import Registry
from service.settings import Settings
from tests.browser.conftest import COMPRESSED, ORIGINAL, Watched, compressed, original
from tests.support.servers import gateway_within

MODELS = "**/v1/models"


@pytest.fixture
def bare(settings: Settings, watch: Callable[..., Watched]) -> Iterator[Page]:
    """A page of a gateway that knows no model yet."""
    with gateway_within(settings):
        web = watch(settings.gateway_url)
        yield web.page
        web.page.goto("about:blank")  # it asks the gateway no more, which goes now


def put(redis: Redis, name: str) -> None:
    """Register another original."""
    Registry(redis).put_model(original().model_copy(update={"name": name}))


def reverse(route: Route) -> None:
    """The models in the other order: a place in the list says nothing."""
    response = route.fetch()
    found = response.json()
    found["data"].reverse()
    route.fulfill(response=response, body=json.dumps(found))


def see(page: Page, option: Locator) -> None:
    """Wait for a model, and for the turn after it."""
    expect(option).to_have_count(1)
    with page.expect_response(MODELS):
        pass


def test_compress_notices_its_first_original(bare: Page, settings: Settings, redis: Redis) -> None:
    bare.goto(f"{settings.gateway_url}/ui/compress")
    expect(bare.get_by_text("No original is served")).to_be_visible()
    put(redis, ORIGINAL)
    expect(bare.get_by_label("Model", exact=True)).to_have_value(ORIGINAL)


def test_a_form_that_is_being_filled_in_stays_when_models_arrive(
    web: Watched, redis: Redis
) -> None:
    put(redis, "second")
    page = web.go("compress")
    model = page.get_by_label("Model", exact=True)
    expect(model).to_have_value(ORIGINAL)
    page.get_by_label("Preset").select_option(index=2)
    page.get_by_text("More", exact=True).click()
    name = page.get_by_label("Name of the result")
    name.fill("mine")
    name.evaluate("field => field.setSelectionRange(1, 2)")

    page.route(MODELS, reverse)
    put(redis, "third")
    see(page, model.get_by_role("option", name="third"))
    expect(model).to_have_value(ORIGINAL)
    model.select_option("second")
    name.focus()
    page.unroute(MODELS)
    put(redis, "fourth")
    see(page, model.get_by_role("option", name="fourth"))
    expect(model).to_have_value("second")
    expect(name).to_have_value("mine")
    expect(name).to_be_focused()
    assert name.evaluate("field => [field.selectionStart, field.selectionEnd]") == [1, 2]
    expect(page.get_by_label("Preset")).not_to_have_value("")
    with page.expect_request("**/compress/check") as sent:
        page.get_by_role("button", name="Check").click()
    body: Any = sent.value.post_data_json
    assert (body["model"], body["name"]) == ("second", "mine")


def test_playground_notices_models_while_a_question_is_written(
    bare: Page, settings: Settings, redis: Redis
) -> None:
    bare.goto(f"{settings.gateway_url}/ui/playground")
    expect(bare.get_by_text("No model is served")).to_be_visible()
    put(redis, ORIGINAL)
    expect(bare.get_by_label("First model")).to_have_value(ORIGINAL)
    question = bare.get_by_label("Question")
    question.press_sequentially("Is it?")
    bare.keyboard.press("ArrowLeft")
    Registry(redis).put_model(compressed())
    expect(bare.get_by_label("Second model")).to_have_value(COMPRESSED)
    bare.keyboard.type(" red")
    expect(question).to_have_value("Is it red?")
    expect(bare.get_by_role("button", name="Ask both")).to_be_visible()


def test_nothing_can_be_asked_before_there_is_who_to_ask(web: Watched) -> None:
    held: list[Route] = []

    def hold(route: Route) -> None:
        held.append(route)

    page = web.page
    page.route(MODELS, hold)
    with page.expect_request(MODELS):
        web.go("playground")
    expect(page.get_by_role("heading", name="Playground")).to_be_visible()
    expect(page.get_by_label("Question")).to_have_count(0)
    for route in held:
        route.continue_()
    assert page.get_by_label("Second model").input_value() == COMPRESSED, (
        "the first time it is seen"
    )


def test_models_that_were_chosen_stay_chosen_when_others_arrive(web: Watched, redis: Redis) -> None:
    put(redis, "second")
    page = web.go("playground")
    first, second = page.get_by_label("First model"), page.get_by_label("Second model")
    expect(second).to_have_value(COMPRESSED)
    first.select_option("second")
    second.select_option("none")
    page.route(MODELS, reverse)
    put(redis, "third")
    see(page, first.get_by_role("option", name="third"))
    expect(first).to_have_value("second")
    expect(second).to_have_value("")
    with page.expect_request("**/v1/chat/completions") as sent:
        page.get_by_label("Question").fill("Is it red?")
        page.get_by_role("button", name="Ask", exact=True).click()
    body: Any = sent.value.post_data_json
    assert body["model"] == "second"
    expect(page.get_by_role("alert")).to_contain_text("No worker of model 'second' is ready")
    web.expect_fault("503")
