"""The web page's files: what is served, with which headers; libraries are what was vendored."""

from __future__ import annotations

import hashlib
import json
import re
from importlib.resources import files
from pathlib import Path

import pytest
from starlette.exceptions import HTTPException

from deploy.vendor_web import PACKAGES, RECORD
from service.gateway.web import FRAME, PAGES, answer, public_config, read_assets
from service.settings import Settings

WEB = Path(str(files("service").joinpath("web")))
ASSETS = read_assets(files("service").joinpath("web"))
NAMES = [name for name in ASSETS if "vendor" not in name]


@pytest.mark.parametrize("place", PACKAGES, ids=lambda place: place.parent.name)
def test_vendored_files_are_those_that_npm_had(place: Path) -> None:
    record = json.loads((place / RECORD).read_text())
    assert [(e["name"], e["version"]) for e in record] == [
        (package.name, package.version) for package in PACKAGES[place]
    ]
    for each in record:
        assert "LICENSE" in each["sha256"]
        for name, digest in each["sha256"].items():
            content = (place / each["name"] / name).read_bytes()
            assert hashlib.sha256(content).hexdigest() == digest


@pytest.mark.parametrize("page", sorted(PAGES))
def test_every_page_is_the_one_document(page: str) -> None:
    response = answer(ASSETS, page, None)
    policy = response.headers["content-security-policy"]
    assert b'<main id="main"' in response.body
    assert "default-src 'none'" in policy
    assert "script-src 'self';" in policy
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy
    assert response.headers["x-content-type-options"] == "nosniff"


def test_the_reports_frame_has_no_origin_and_may_be_framed_by_the_page() -> None:
    policy = answer(ASSETS, FRAME, None).headers["content-security-policy"]
    assert "sandbox allow-scripts" in policy
    assert "frame-ancestors 'self'" in policy
    assert "connect-src" not in policy, "default-src 'none' holds"


def test_a_browser_that_has_a_file_gets_nothing_of_it() -> None:
    first = answer(ASSETS, "js/app.js", None)
    again = answer(ASSETS, "js/app.js", first.headers["etag"])
    assert (again.status_code, again.body) == (304, b"")
    assert answer(ASSETS, "js/app.js", '"other"').status_code == 200


@pytest.mark.parametrize(
    "path", ["nothing", "../settings.py", "vendor/vendor.json", "__init__.py", "js/../index.html"]
)
def test_nothing_else_is_served(path: str) -> None:
    with pytest.raises(HTTPException):
        answer(ASSETS, path, None)


@pytest.mark.parametrize("name", NAMES)
def test_no_file_names_another_host_or_has_inline_scripts(name: str) -> None:
    text = ASSETS[name].content.decode()
    hosts = re.findall(r"https?://[\w.-]+", text.replace("http://www.w3.org/", ""))
    assert hosts == []
    assert not re.search(r"<script(?![^>]*src=)", text)
    assert not re.search(r"\sstyle=[\"']", text), "the policy forbids it"


def test_every_module_that_is_imported_is_served() -> None:
    for name in NAMES:
        if not name.endswith(".js"):
            continue
        text = ASSETS[name].content.decode()
        for target in re.findall(
            r"""from ["'](\.[^"']+)["']|^import ["'](\.[^"']+)["']""", text, re.M
        ):
            path = (WEB / name).parent / (target[0] or target[1])
            assert path.resolve().relative_to(WEB).as_posix() in ASSETS, (name, target)


def test_before_anyone_signed_in_only_limits_are_told() -> None:
    told = public_config(Settings(auth="keys", max_image_bytes=5))
    assert set(told) == {"version", "auth", "max_body_bytes", "max_image_bytes"}
    assert (told["auth"], told["max_image_bytes"]) == ("keys", 5)
