"""How pages are read as scripts, and that every page can be."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.support.doc_blocks import (
    DocumentError,
    blocks,
    expected,
    occurs,
    page_needs,
)
from tests.support.servers import ROOT

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("**/*.md"))]
PAGE = """<!-- test page: model served -->
# Title

```bash
infoprune --version
```

```text
1.0 ... final
...
```

Words.

```text
not an output
```

<!-- test: background -->
```bash
infoprune serve a
```

<!-- test: skip=needs a GPU -->
```bash
nvidia-smi
```

```yaml title="half.yaml"
flops: 0.5
```
"""


def test_a_page_is_a_list_of_blocks() -> None:
    found = blocks(PAGE)
    kinds = ["command", "output", "output", "command", "command", "file"]
    assert [b.kind for b in found] == kinds
    assert [b.background for b in found] == [False, False, False, True, False, False]
    assert found[4].skip == "needs a GPU"
    assert (found[5].title, found[5].text) == ("half.yaml", "flops: 0.5\n")
    assert page_needs(PAGE) == {"model", "served"}


def test_only_what_follows_a_command_at_once_is_its_output() -> None:
    found = blocks(PAGE)
    assert expected(found[0], found[1], PAGE) == ["1.0 ... final"]
    assert expected(found[0], found[2], PAGE) == []
    assert expected(found[4], found[5], PAGE) == []


@pytest.mark.parametrize(
    ("line", "holds"),
    [("a ... c", True), ("a b", True), ("a c", False), ("c ... a", False), ("a.b", False)],
)
def test_an_expected_line_occurs_with_any_space_and_anything_for_dots(
    line: str, holds: bool
) -> None:
    assert occurs(line, "x  a   b c") is holds


@pytest.mark.parametrize(
    "text",
    [
        "```bash\nnever closed\n",
        "- item\n  ```bash\n  x\n  ```\n",
        "```bash session\nx\n```\n",
        "<!-- test: skip -->\n```bash\nx\n```\n",
        "<!-- test: skip=lonely -->\n\n```bash\nx\n```\n",
    ],
)
def test_what_no_test_would_run_is_an_error(text: str) -> None:
    with pytest.raises(DocumentError, match="line "):
        blocks(text)


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_every_command_of_a_page_is_in_a_fence(page: Path) -> None:
    text = page.read_text()
    blocks(text)
    outside = re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)
    indented = [
        li for li in outside.splitlines() if re.match(r" {4,}(infoprune|curl|make|python) ", li)
    ]
    # The architecture's trees of files are no commands.
    assert indented == []
