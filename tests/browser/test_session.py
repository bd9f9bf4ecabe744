"""Signing in with a key, what a key of fewer scopes sees, and what the page says when it is refused."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from playwright.sync_api import Browser, expect
from redis import Redis

from service.keys import KeyStore, Scope
from tests.browser.conftest import COMPRESSED, Watched
from tests.support.http import call
from tests.support.servers import wait_until


def make_key(redis: Redis, url: str, scope: Scope) -> str:
    token, _ = KeyStore(redis).create("web", frozenset({scope}))
    shown = {"authorization": f"Bearer {token}"}
    wait_until(lambda: call("GET", f"{url}/v1/models", headers=shown).status == 200)
    return token


@pytest.fixture
def locked_web(locked: str, watch: Callable[..., Watched]) -> Watched:
    return watch(locked)


def sign_in(web: Watched, token: str) -> None:
    web.page.get_by_label("API key").fill(token)
    web.page.keyboard.press("Enter")


def test_the_key_opens_the_page_and_stays_in_the_tab(locked_web: Watched, redis: Redis) -> None:
    token = make_key(redis, locked_web.url, "admin")
    asked: list[str] = []
    locked_web.page.on("request", lambda request: asked.append(request.url))
    page = locked_web.go("compare")
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
    assert not any("/v1/" in url for url in asked), "nothing is asked before there is a key"

    sign_in(locked_web, token)

    expect(page.get_by_role("heading", name="Numbers")).to_be_visible()
    assert page.evaluate("sessionStorage.getItem('infoprune-key')") == token
    assert page.evaluate("JSON.stringify(localStorage) + document.cookie").find(token) < 0
    assert not any(token in url for url in asked)

    page.get_by_role("link", name="Models").click()
    expect(page.get_by_role("article", name=COMPRESSED)).to_be_visible()
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
    assert page.evaluate("sessionStorage.length") == 0


def test_a_wrong_key_is_refused_in_one_sentence(locked_web: Watched) -> None:
    page = locked_web.go("models")
    sign_in(locked_web, "ip-wrong")
    expect(page.get_by_role("alert")).to_have_text("The API key is unknown or was revoked.")
    expect(page.get_by_label("API key")).to_be_visible()
    locked_web.expect_fault("401")


def test_a_key_for_inference_sees_the_numbers_but_no_administration(
    locked_web: Watched, redis: Redis
) -> None:
    token = make_key(redis, locked_web.url, "inference")
    page = locked_web.go("compare")
    sign_in(locked_web, token)
    expect(page.get_by_role("region", name="Headline")).to_contain_text("fewer FLOPs")
    page.get_by_role("link", name="Models").click()
    expect(page.get_by_role("alert")).to_contain_text("does not have the scope 'admin'")
    locked_web.expect_fault("403")


def test_a_new_tab_asks_for_the_key_again(
    locked: str, watch: Callable[..., Watched], redis: Redis, chromium: Browser
) -> None:
    del chromium
    token = make_key(redis, locked, "admin")
    first = watch(locked)
    first.go("compare")
    sign_in(first, token)
    expect(first.page.get_by_role("heading", name="Numbers")).to_be_visible()
    second = first.page.context.new_page()
    second.goto(f"{locked}/ui/")
    expect(second.get_by_role("heading", name="Sign in")).to_be_visible()
