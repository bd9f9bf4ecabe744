"""The command line of `deploy/install.py`. Standard library only."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

ROOT = Path(__file__).resolve().parent.parent
TORCH_INDEX = "https://download.pytorch.org/whl/cpu"


@dataclass(frozen=True)
class Options:
    """The command line."""

    extra: str | None
    dev: bool
    dry_run: bool
    venv: Path
    torch_index: str
    editable: bool = True
    without_engine: bool = False

    @property
    def python(self) -> Path:
        """The environment's interpreter."""
        return self.venv / "bin" / "python"


def parse(argv: Sequence[str] | None = None) -> Options:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="Install InfoPrune and its engine into .venv.")
    parser.add_argument("--extra", choices=("cpu", "gpu"), help="default: gpu if nvidia-smi works")
    parser.add_argument("--dev", action="store_true", help="also the linters and test tools")
    parser.add_argument("--dry-run", action="store_true", help="print the decisions only")
    parser.add_argument("--venv", type=Path, default=ROOT / ".venv", help="default: .venv")
    parser.add_argument("--torch-index", default=TORCH_INDEX, help="default: %(default)s")
    parser.add_argument(
        "--no-editable",
        dest="editable",
        action="store_false",
        help="install a copy of this checkout, which is not needed afterwards (for images)",
    )
    parser.add_argument(
        "--without-engine", action="store_true", help="torch, but no vLLM (for job runners)"
    )
    return Options(**vars(parser.parse_args(argv)))
