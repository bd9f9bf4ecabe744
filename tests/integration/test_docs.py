"""Every page of the documentation, followed as its reader would, with a fake engine in vLLM's place."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import FACTOR
from tests.support.doc_blocks import Block, blocks, page_needs
from tests.support.doc_pages import Models, Reader, prepare
from tests.support.fake_vllm import fake_vllm
from tests.support.random_vlm import uneven_towers, write_random_llava
from tests.support.servers import ROOT

RUNS = {"command", "program"}
PAGES = [
    page
    for page in [ROOT / "README.md", *sorted((ROOT / "docs").glob("**/*.md"))]
    if any(block.kind in RUNS for block in blocks(page.read_text()))
]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Models:
    """Tiny LLaVAs with random weights for every model that pages name, one of compressed shapes."""
    folder = tmp_path_factory.mktemp("models")
    own, half = folder / "my-llava", folder / "my-llava-half"
    write_random_llava(own)
    write_random_llava(half, uneven_towers())
    return Models(bundled=own, own=own, half=half)


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[Reader]:
    place = tmp_path / "place"
    place.mkdir()
    found = Reader(place, engine=fake_vllm(tmp_path / "engine"))
    yield found
    found.stop()


@pytest.mark.timeout(900 * FACTOR)
@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_every_command_of_the_page_does_what_the_page_says(
    page: Path, reader: Reader, models: Models, subtests: pytest.Subtests
) -> None:
    text = page.read_text()

    def skipped(block: Block) -> None:
        with subtests.test(msg=f"{page.name}:{block.line}: {block.text.splitlines()[0]}"):
            pytest.skip(block.skip)

    prepare(reader, page_needs(text), models)
    ran = reader.follow(text, skipped)
    assert ran > 0 or all(block.skip for block in blocks(text) if block.kind in RUNS)
