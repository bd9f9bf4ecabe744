"""The tutorial, followed from its first line to its last: the bundled model, real vLLM, one service."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import FACTOR
from tests.support.doc_blocks import Block, page_needs
from tests.support.doc_pages import Models, Reader, prepare
from tests.support.servers import ROOT

MODEL = ROOT / "models" / "shapes-llava"


@pytest.mark.timeout(1200 * FACTOR)
def test_the_tutorial_leads_from_a_model_to_a_rollback(tmp_path: Path) -> None:
    skipped: list[Block] = []
    reader = Reader(tmp_path, small=False)
    text = (ROOT / "docs" / "tutorial.md").read_text()
    try:
        prepare(reader, page_needs(text), Models(bundled=MODEL, own=MODEL))
        assert reader.follow(text, skipped.append) >= 12
    finally:
        reader.stop()
    # The demo has a test of its own, the environment is active, and there may be no network.
    assert [block.text.split()[0] for block in skipped] == ["make", "source", "hf"]
