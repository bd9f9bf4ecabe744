"""The fenced blocks of a Markdown page, and what a test shall do with them. Pure.

A page of the documentation is a script: its blocks run from the top, in one directory.
- `bash` runs, and must end with status 0; `python` runs too.
- A block with a title (`yaml title="half.yaml"`) is a file of that name.
- A `text` block right after a command is what it prints: each line must occur, with anything for `...`.
- Everything else is for the reader alone.

A comment before a block says what the reader need not see: `<!-- test: skip=needs a GPU -->` or
`<!-- test: background -->` for what runs until the page ends. A comment at the page's top says what it
needs (`doc_pages.prepare`): `<!-- test page: model served -->`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

Kind = Literal["command", "program", "file", "output", "other"]
_FENCE = re.compile(r"^```(?P<language>[a-z]*)(?: title=\"(?P<title>[^\"]+)\")?$")
_COMMENT = re.compile(r"^<!-- test: (?P<what>background|skip=(?P<reason>.+?)) -->$")
_PAGE = re.compile(r"^<!-- test page: (?P<needs>[a-z0-9 ]+) -->$", re.MULTILINE)
_PROGRAMS: dict[str, Kind] = {"bash": "command", "python": "program", "text": "output"}


class DocumentError(Exception):
    """The page cannot be read as a script; says where."""


@dataclass(frozen=True)
class Block:
    """One fenced block."""

    line: int
    """Of its fence, counted from 1."""
    kind: Kind
    text: str
    title: str = ""
    skip: str = ""
    """Why it cannot run in a test."""
    background: bool = False


def page_needs(text: str) -> frozenset[str]:
    """What the page says that it needs."""
    found = _PAGE.search(text)
    return frozenset(found["needs"].split()) if found else frozenset()


def blocks(text: str) -> list[Block]:
    """The blocks of a page, in order.

    Raises:
        DocumentError: a fence is indented, never closed, or a comment stands before no block.
    """
    found: list[Block] = []
    lines = text.splitlines()
    comment: re.Match[str] | None = None
    number = 0
    while number < len(lines):
        line = lines[number]
        if "```" in line and not line.startswith("```") and "`" not in line.split("```")[0]:
            raise DocumentError(f"line {number + 1}: a fence that is not at the margin")
        if line.startswith("```"):
            end = _end_of(lines, number)
            found.append(_block(number + 1, line, lines[number + 1 : end], comment))
            number, comment = end, None
        elif line.startswith("<!-- test:"):
            comment = _COMMENT.match(line)
            if comment is None or not lines[number + 1 : number + 2][0].startswith("```"):
                raise DocumentError(f"line {number + 1}: {line!r} says nothing, or of nothing")
        number += 1
    return found


def expected(block: Block, following: Block | None, text: str) -> list[str]:
    """The lines that a command must print: of an `output` block with nothing but space before it."""
    if following is None or following.kind != "output":
        return []
    start = block.line + len(block.text.splitlines()) + 1
    between = text.splitlines()[start : following.line - 1]
    if any(line.strip() for line in between):
        return []
    return [line.strip() for line in following.text.splitlines() if line.strip(" .")]


def occurs(line: str, output: str) -> bool:
    """Whether a line that a page shows was printed; spaces and what `...` stands for may differ."""
    parts = [r"\s+".join(map(re.escape, part.split())) for part in line.split("...")]
    return re.search(".*".join(parts), output) is not None


def _end_of(lines: list[str], start: int) -> int:
    for number in range(start + 1, len(lines)):
        if lines[number] == "```":
            return number
    raise DocumentError(f"line {start + 1}: a fence that is never closed")


def _block(line: int, fence: str, inside: list[str], comment: re.Match[str] | None) -> Block:
    opened = _FENCE.match(fence)
    if opened is None:
        raise DocumentError(f"line {line}: {fence!r} is no fence that tests know")
    title = opened["title"] or ""
    return Block(
        line=line,
        kind="file" if title else _PROGRAMS.get(opened["language"], "other"),
        text="\n".join(inside) + "\n",
        title=title,
        skip=(comment["reason"] or "") if comment else "",
        background=comment is not None and comment["what"] == "background",
    )
