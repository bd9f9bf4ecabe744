"""`python -m deploy.reference`: write every generated page; a unit test says when one is stale."""

from __future__ import annotations

from pathlib import Path

from deploy.reference.pages import PAGES

DOCS = Path(__file__).resolve().parents[2] / "docs"


def main() -> None:
    """Write all pages into `docs/`."""
    for name, text in PAGES.items():
        (DOCS / name).write_text(text())


if __name__ == "__main__":
    main()
