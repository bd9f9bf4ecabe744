"""Playground in front of an engine that stops within its answer: what is seen while answers come."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.browser.conftest import COMPRESSED, ORIGINAL, Watched
from tests.browser.test_playground import ask
from tests.support.held_engine import HeldEngine, held_engine

HELD_MS = 3000
UNITS = {"ms": 1e-3, "s": 1.0}


@pytest.fixture
def held() -> Iterator[HeldEngine]:
    with held_engine() as engine:
        yield engine


@pytest.fixture
def engine(held: HeldEngine) -> str:
    """Both models' engine."""
    return held.url


def answer_of(page: Page, model: str) -> Locator:
    return page.get_by_role("region", name=f"Answer of {model}", exact=True)


def said(answer: Locator) -> Locator:
    return answer.locator("[aria-live=polite]")


def whole_s(answer: Locator) -> float:
    """How long the whole answer took, as the page says."""
    fact = answer.get_by_text("whole answer").locator("xpath=following-sibling::dd")
    value, unit = str(fact.text_content()).split()
    return float(value) * UNITS[unit]


def test_an_answer_is_read_while_it_comes_and_the_other_model_waits(
    web: Watched, held: HeldEngine
) -> None:
    page = web.go("playground")
    expect(page.get_by_label("Second model")).to_have_value(COMPRESSED)
    ask(page, "Is it red?")
    first, second = (answer_of(page, name) for name in (ORIGINAL, COMPRESSED))
    expect(said(first)).to_have_text("y")
    expect(said(first)).to_have_attribute("aria-busy", "true")
    expect(first).to_contain_text(re.compile(r"first token\s*[\d.]+ m?s"))
    expect(said(second)).to_have_text(f"Waits until {ORIGINAL} has answered.")
    expect(said(second)).to_have_attribute("aria-busy", "true")
    page.wait_for_timeout(HELD_MS)
    assert held.asked == 1, "the second is not asked while the first computes"

    held.let_go.set()
    for answer in (first, second):
        expect(said(answer)).to_have_text("yes")
        expect(said(answer)).to_have_attribute("aria-busy", "false")
    expect(page.get_by_role("status")).to_contain_text("The answers are the same")
    assert held.asked == 2
    most_s = HELD_MS / 1500  # two thirds of what the first was held for
    assert whole_s(second) < most_s < whole_s(first), "waiting is not counted"


def test_a_question_that_is_replaced_asks_nobody_more(web: Watched, held: HeldEngine) -> None:
    page = web.go("playground")
    expect(page.get_by_label("Second model")).to_have_value(COMPRESSED)
    ask(page, "Is it red?")
    expect(said(answer_of(page, ORIGINAL))).to_have_text("y")
    page.get_by_label("Second model").select_option("none")
    page.get_by_role("button", name="Ask", exact=True).click()
    expect(answer_of(page, COMPRESSED)).to_have_count(0)
    held.let_go.set()
    expect(said(answer_of(page, ORIGINAL))).to_have_text("yes")
    assert held.asked == 2, "the original, twice"
