"""The page in front of two gateway processes: whichever answers it, it shows what both know."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import expect
from redis import Redis

from service.settings import Settings
from tests.browser.conftest import COMPRESSED, ORIGINAL, Watched, change
from tests.browser.test_compare import ask
from tests.support.servers import two_gateways_within

REQUESTS = 12  # over as many connections, which the kernel spreads over both


@pytest.fixture
def two(settings: Settings, models: None, redis: Redis, tmp_path: Path) -> Iterator[str]:
    """URL of two gateway processes on one port."""
    del models
    with two_gateways_within(settings, redis, tmp_path) as url:
        yield url


def test_numbers_are_those_of_both_processes(two: str, watch: Callable[..., Watched]) -> None:
    ask(two, ORIGINAL, times=REQUESTS)
    ask(two, COMPRESSED, times=REQUESTS)
    page = watch(two).go("")
    answered = page.get_by_role("table").get_by_role("row", name="answered, failed")
    expect(answered).to_contain_text(f"{REQUESTS}, 0{REQUESTS}, 0")


def test_a_canary_is_watched_and_rolled_back_through_either(
    two: str, watch: Callable[..., Watched]
) -> None:
    change("PUT", f"{two}/aliases/prod", {"targets": [{"model": ORIGINAL}]})
    change("POST", f"{two}/aliases/prod/canary", {"candidate": COMPRESSED})
    page = watch(two).go("compare?of=alias%3Aprod")
    rollout = page.get_by_role("region", name="Roll-out of prod")
    expect(rollout).to_contain_text(COMPRESSED)
    ask(two, "prod", times=REQUESTS)
    page.get_by_role("button", name="Roll back…").click()
    dialog = page.get_by_role("dialog", name="Roll back prod?")
    dialog.get_by_role("button", name="Roll back").click()
    expect(page.get_by_role("status").first).to_have_text("prod was rolled back.")
    expect(page.get_by_text("The last canary")).to_contain_text("Rolled back by hand.")
