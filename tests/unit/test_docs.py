"""The documentation as a whole: links, navigation, generated pages, pages that the code names."""

from __future__ import annotations

import re
import unicodedata
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from compressor.recipe import Recipe
from deploy.reference.pages import PAGES as GENERATED
from deploy.reference.schema import rows
from service.settings import Settings
from tests.support.servers import ROOT

DOCS = ROOT / "docs"
PAGES = sorted(DOCS.glob("**/*.md"))
LINKING = [ROOT / "README.md", ROOT / "CHANGELOG.md", ROOT / "tests" / "README.md", *PAGES]
LINK = re.compile(r"\]\((?P<target>[^)\s]+)\)")


@cache
def anchors(page: Path) -> frozenset[str]:
    """The anchors of a page's headings, as mkdocs and code hosts make them."""
    text = without_fences(page.read_text())
    titles = re.findall(r"^#+ (.+?)$", text, flags=re.MULTILINE)
    return frozenset(slug(title) for title in titles)


def slug(title: str) -> str:
    """Small letters, digits and single hyphens, as Python-Markdown makes an anchor."""
    plain = unicodedata.normalize("NFKD", title).encode("ascii", "ignore").decode()
    return re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", plain).strip().lower())


def without_fences(text: str) -> str:
    return re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("page", LINKING, ids=lambda p: str(p.relative_to(ROOT)))
def test_every_link_leads_to_a_file_and_a_heading(page: Path) -> None:
    dead = []
    for match in LINK.finditer(without_fences(page.read_text())):
        target, _, anchor = match["target"].partition("#")
        if target.startswith(("http://", "https://", "mailto:")):
            continue
        there = (page.parent / target).resolve() if target else page
        missing = anchor and there.suffix == ".md" and anchor not in anchors(there)
        if not there.exists() or missing:
            dead.append(match["target"])
    assert dead == []


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_a_page_of_the_site_links_within_the_site(page: Path) -> None:
    targets = [m["target"].partition("#")[0] for m in LINK.finditer(page.read_text())]
    outside = [
        t for t in targets if t and "//" not in t and not (DOCS / t).resolve().is_relative_to(DOCS)
    ]
    assert outside == []


def test_every_page_is_in_the_navigation_once() -> None:
    config = yaml.safe_load((ROOT / "mkdocs.yml").read_text())
    listed = list(leaves(config["nav"]))
    assert sorted(listed) == sorted(str(page.relative_to(DOCS)) for page in PAGES)


def leaves(nav: Any) -> list[str]:
    if isinstance(nav, str):
        return [nav]
    inside = nav.values() if isinstance(nav, dict) else nav
    return [leaf for each in inside for leaf in leaves(each)]


@pytest.mark.parametrize("name", GENERATED)
def test_a_reference_page_is_what_the_code_says(name: str) -> None:
    assert (DOCS / name).read_text() == GENERATED[name](), "run `make reference`"


@pytest.mark.parametrize("model", [Recipe, Settings])
def test_every_key_has_a_meaning(model: type[Recipe | Settings]) -> None:
    schema = model.model_json_schema(by_alias=False)
    silent = [row.name for row in rows(schema, schema.get("$defs", {})) if not row.meaning]
    assert silent == [], "give each a docstring below it"


def test_every_page_that_the_code_names_is_there() -> None:
    sources = [
        path
        for folder in ("compressor", "service", "models", "deploy", "bench")
        for path in (ROOT / folder).glob("**/*.py")
    ]
    named = {
        (str(path.relative_to(ROOT)), name)
        for path in sources
        for name in re.findall(r"\bdocs/[\w/-]+\.md\b", path.read_text())
    }
    gone = [(path, name) for path, name in sorted(named) if not (ROOT / name).is_file()]
    # What `python -m bench.compress` writes when it is asked to.
    assert [found for found in gone if found[1] != "docs/results/compress.md"] == []
