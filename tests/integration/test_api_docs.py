"""`/docs` against the real gateway: it is whole without a network, under its own policy."""

from __future__ import annotations

import re
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, expect
from redis import Redis

from deploy.chromium import MISSING, browser, find_chromium
from service.settings import Settings
from tests.support.http import call
from tests.support.servers import gateway_within

PATIENCE_MS = 60_000.0


@pytest.fixture
def locked(settings: Settings, redis: Redis) -> Iterator[str]:
    """URL of a gateway that asks for keys, but not for this page."""
    del redis
    with gateway_within(settings.model_copy(update={"auth": "keys"})):
        yield settings.gateway_url


@pytest.fixture
def chromium() -> Iterator[Browser]:
    if find_chromium() is None:
        pytest.skip(MISSING)
    with browser() as opened:
        yield opened


def test_the_page_and_its_files_need_no_key_and_are_the_gateways_own(locked: str) -> None:
    page = call("GET", f"{locked}/docs")
    assert page.status == 200
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "script-src 'self';" in policy
    assert "connect-src 'self';" in policy
    assert "unsafe" not in policy
    named = re.findall(r'(?:src|href)="([^"]+)"', page.body.decode())
    assert len(named) == 5
    for path in named:
        assert not urlsplit(path).netloc
        assert call("GET", f"{locked}/{path}").status == 200, path
    assert call("GET", f"{locked}/docs/vendor/vendor.json").status == 404
    assert call("GET", f"{locked}/docs/__init__.py").status == 404
    assert call("GET", f"{locked}/redoc").status == 401, (
        "there is none; what is nowhere needs admin"
    )


def test_a_browser_shows_every_operation_and_asks_nobody_else(
    locked: str, chromium: Browser
) -> None:
    page = chromium.new_page()
    page.set_default_timeout(PATIENCE_MS)
    expect.set_options(timeout=PATIENCE_MS)
    asked, faults = list[str](), list[str]()
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda said: faults.append(said.text) if said.type == "error" else None)
    page.on("pageerror", lambda error: faults.append(str(error)))

    page.goto(f"{locked}/docs")

    expect(page.locator('[data-path="/v1/chat/completions"]')).to_be_visible()
    expect(page.get_by_role("button", name="Authorize").first).to_be_visible()
    health = page.locator(".opblock", has=page.locator('[data-path="/health"]'))
    health.locator(".opblock-summary").click()
    health.get_by_role("button", name="Try it out").click()
    health.get_by_role("button", name="Execute").click()
    expect(health.locator(".live-responses-table").first).to_contain_text('"status": "ok"')
    assert {urlsplit(url).netloc for url in asked if not url.startswith("data:")} == {
        urlsplit(locked).netloc
    }
    assert faults == []
