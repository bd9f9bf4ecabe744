"""Figures that a benchmark puts into a page of the documentation, between two marks of its name."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.table import Table

RESULTS = Path(__file__).resolve().parents[1] / "docs" / "results.md"


def placed(page: str, name: str, content: str) -> str:
    """The page with what stands between the marks of a name replaced; they say what writes it. Pure.

    Raises:
        ValueError: the page lacks the marks.
    """
    begin, end = rf"<!-- {re.escape(name)}: [^\n]* -->\n", f"<!-- end of {name} -->"
    marks = re.search(f"({begin}).*?({end})", page, flags=re.DOTALL)
    if marks is None:
        raise ValueError(f"the page lacks the marks <!-- {name}: COMMAND --> and {end}")
    return f"{page[: marks.end(1)]}{content.strip()}\n{page[marks.start(2) :]}"


def write_results(name: str, content: str, data: Mapping[str, Any] | None = None) -> None:
    """Put a benchmark's figures into docs/results.md, and what they were read off beside the page."""
    RESULTS.write_text(placed(RESULTS.read_text(), name, content))
    if data is not None:
        path = RESULTS.with_suffix("") / f"{name}.json"
        path.write_text(json.dumps(data, indent=1) + "\n")


def markdown(*tables: Table) -> str:
    """Tables for a terminal as Markdown, their titles in bold. Pure."""
    return "\n\n".join(_markdown(table) for table in tables)


def _markdown(table: Table) -> str:
    columns = [[str(cell) for cell in column.cells] for column in table.columns]
    rows = [[str(column.header) for column in table.columns], ["---"] * len(columns)]
    rows += [list(row) for row in zip(*columns, strict=True)]
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join([f"**{table.title}**\n", *lines] if table.title else lines)
