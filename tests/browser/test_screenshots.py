"""The script that takes the documentation's pictures, in front of a fake engine."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

import pytest
from PIL import Image
from playwright.sync_api import Browser
from redis import Redis

from deploy.canary import NotReadyError, canary, served_pair
from deploy.screenshots import MAX_BYTES, PHONE, WIDE, Camera, take_all
from service.client import GatewayClient
from service.errors import ServiceError
from service.keys import KeyStore
from service.registry import Registry, WorkerState
from service.workers.manager import free_port
from tests.browser.conftest import COMPRESSED, ORIGINAL
from tests.conftest import FACTOR
from tests.support.http import call
from tests.support.servers import ROOT, wait_until

WHOLE = {"playground", "compare", "compare-dark", "compress", "models"}
IN_PAGES = {f"{name}.png" for name in (*WHOLE, "compare-phone")}
IMAGES = ROOT / "docs" / "images"
LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)\s]+)")
"""A link in Markdown, or a picture with its alternative text."""
TAG = re.compile(r"<img\s[^>]*>")


class Seen(NamedTuple):
    """What a picture is."""

    kind: str | None
    size: tuple[int, int]
    colours: int
    ground: float
    """Share of the most frequent colour."""
    brightness: float


def look(path: Path) -> Seen:
    with Image.open(path) as image:
        counts = image.convert("RGB").getcolors(1 << 24)
        assert counts is not None
        pixels = image.width * image.height
        most, colour = max(counts)
        kind, size = image.format, image.size
    assert isinstance(colour, tuple)
    return Seen(kind, size, len(counts), most / pixels, sum(colour) / 3)


@pytest.mark.timeout(600 * FACTOR)
def test_every_picture_of_the_documentation_is_taken_and_the_alias_is_gone(
    chromium: Browser, gateway: str, tmp_path: Path
) -> None:
    take_all(Camera(chromium, gateway, None, tmp_path / "images"), rounds=1)

    taken = {path.name: look(path) for path in (tmp_path / "images").iterdir()}
    assert set(taken) == IN_PAGES
    for name, seen in taken.items():
        assert seen.kind == "PNG", name
        assert seen.colours > 20, name
        assert seen.ground < 0.97, name
        assert (seen.brightness < 60) is ("dark" in name), name
        assert (tmp_path / "images" / name).stat().st_size <= MAX_BYTES, name
    for name in WHOLE:
        width, height = taken[f"{name}.png"].size
        assert width == WIDE[0], name
        assert WIDE[1] <= height < 4000, name
    assert taken["compare-phone.png"].size == PHONE

    wait_until(lambda: call("GET", f"{gateway}/aliases").json()["data"] == [])
    history = call("GET", f"{gateway}/aliases/prod/history").json()["data"]
    assert f"canary {COMPRESSED}" in [each["what"] for each in history]


def test_an_alias_that_is_there_is_left_alone(locked: str, redis: Redis, picture: Path) -> None:
    key = admin(redis, locked)
    client = GatewayClient(locked, api_key=key)
    client.call("PUT", "/aliases/prod", {"targets": [{"model": ORIGINAL}]})
    before = client.call("GET", "/aliases/prod")
    with canary(client, served_pair(client), picture) as name:
        assert name == "prod-2"
        shown = client.call("GET", f"/aliases/{name}")
        assert shown["alias"]["canary"]["candidate"] == COMPRESSED
        assert shown["comparison"]["agreement"]["n"] > 0
    assert client.call("GET", "/aliases/prod") == before
    wait_until(lambda: len(client.call("GET", "/aliases")["data"]) == 1)


def test_a_service_without_the_two_models_is_told_in_one_sentence(
    chromium: Browser, gateway: str, redis: Redis, tmp_path: Path
) -> None:
    asleep = WorkerState(id="w1", model=COMPRESSED, url="http://127.0.0.1:9", status="starting")
    Registry(redis).put_worker(asleep)
    ready = f"{gateway}/v1/models/{COMPRESSED}"
    wait_until(lambda: not call("GET", ready).json()["ready"])
    with pytest.raises(NotReadyError, match="no compressed model beside its original, both ready"):
        take_all(Camera(chromium, gateway, None, tmp_path), rounds=1)
    assert list(tmp_path.glob("*.png")) == []


def test_a_gateway_that_is_not_there_or_wants_a_key_is_told(locked: str, redis: Redis) -> None:
    nobody = f"http://127.0.0.1:{free_port()}"
    with pytest.raises(ServiceError, match=f"No gateway answers at {nobody}; start one"):
        served_pair(GatewayClient(nobody, api_key=None))
    with pytest.raises(ServiceError, match="API key"):
        served_pair(GatewayClient(locked, api_key=None))
    known = GatewayClient(locked, api_key=admin(redis, locked))
    assert served_pair(known) == (ORIGINAL, COMPRESSED)


def admin(redis: Redis, url: str) -> str:
    """A key that may do everything, once the gateway knows it."""
    token, _ = KeyStore(redis).create("pictures", frozenset({"admin"}))
    shown = {"authorization": f"Bearer {token}"}
    wait_until(lambda: call("GET", f"{url}/v1/models", headers=shown).status == 200)
    return token


def test_the_documentation_shows_every_picture_that_the_script_takes_and_no_other() -> None:
    pages = [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]
    shown = {page.name: pictures(page) for page in pages}
    assert shown["README.md"], "the first page shows what there is"
    assert set().union(*shown.values()) == IN_PAGES
    assert {path.name for path in IMAGES.iterdir()} == IN_PAGES


def pictures(page: Path) -> set[str]:
    """The pictures of the web page that a page shows; each link to one leads to a file."""
    shown = set()
    content = page.read_text()
    tags = [dict(re.findall(r'(\w+)="([^"]*)"', tag)) for tag in TAG.findall(content)]
    tagged = [("!", tag.get("alt", ""), tag["src"]) for tag in tags]
    for mark, text, target in [*LINK.findall(content), *tagged]:
        path = (page.parent / target).resolve()
        if path.parent != IMAGES:
            continue
        assert path.is_file(), (page.name, target)
        assert path.name in IN_PAGES, (page.name, target)
        if mark:
            assert len(text) > 10, (page.name, target, "says what is to be seen")
            shown.add(path.name)
    return shown
