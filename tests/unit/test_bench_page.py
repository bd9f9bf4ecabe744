from __future__ import annotations

import pytest
from rich.table import Table

from bench.page import RESULTS, markdown, placed

PAGE = "before\n<!-- speed: make bench-speed -->\nold\n<!-- end of speed -->\nafter\n"


def test_only_what_stands_between_the_marks_is_replaced() -> None:
    once = placed(PAGE, "speed", "new\n\n")
    assert once == PAGE.replace("old", "new")
    assert placed(once, "speed", "newer") == PAGE.replace("old", "newer")


def test_a_block_that_is_empty_can_be_filled() -> None:
    assert placed(PAGE.replace("old\n", ""), "speed", "new") == PAGE.replace("old", "new")


def test_a_page_without_marks_is_refused() -> None:
    with pytest.raises(ValueError, match="lacks the marks <!-- cost: COMMAND -->"):
        placed(PAGE, "cost", "new")


@pytest.mark.parametrize("name", ["compress", "speed", "cost", "gateway"])
def test_every_benchmark_has_its_place(name: str) -> None:
    assert "new" in placed(RESULTS.read_text(), name, "new")


def test_a_table_for_a_terminal_is_one_for_the_page() -> None:
    table = Table("", "original", title="Speed")
    table.add_row("batch 1", "0.5")
    assert markdown(table) == "**Speed**\n\n|  | original |\n| --- | --- |\n| batch 1 | 0.5 |"
