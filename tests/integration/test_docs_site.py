"""The documentation's site, as `make docs` builds it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.servers import ROOT

ELSEWHERE = re.compile(r"<(?:script|link|img|iframe)\b[^>]*\b(?:src|href)=\"(?:https?:)?//[^\"]*\"")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("docs") / "site"
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(target)]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return target


def test_every_page_is_built_and_can_be_found(site: Path) -> None:
    pages = {page.stem for page in (ROOT / "docs").glob("*.md")}
    assert pages <= {page.stem for page in site.glob("*.html")}
    found = json.loads((site / "search" / "search_index.json").read_text())["docs"]
    places = [entry["location"] for entry in found if "rollback" in entry["text"]]
    assert any(place.startswith("tutorial.html") for place in places)


def test_nothing_is_loaded_from_elsewhere(site: Path) -> None:
    loaded = [m for page in site.glob("**/*.html") for m in ELSEWHERE.findall(page.read_text())]
    assert loaded == []
