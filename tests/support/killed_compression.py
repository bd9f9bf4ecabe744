"""Compress a model in a process that kills itself with SIGKILL once it has come to a stage.

python -m tests.support.killed_compression MODEL RECIPE_JSON OUT [STAGE SHARE]

The shares `within` and `behind` of `export` are while the report is written, and when the model is in
its place but the pieces are not removed yet.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from unittest.mock import patch

from compressor import export
from compressor.pipeline import Stage, compress
from compressor.recipe import parse_recipe
from compressor.work import Work


def main(model: str, recipe: str, out: str, stage: str = "", share: str = "0") -> None:
    """Run, and die at the first report of `stage` with at least `share` of it done."""

    def die(*_: object) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    if share in {"within", "behind"}:
        # Nothing is told at these points, so the process dies in what runs there.
        owner, name = (export, "write_report") if share == "within" else (Work, "remove")
        patch.object(owner, name, die).start()
        stage = ""

    def progress(now: Stage, done: float) -> None:
        if now == stage and done >= float(share):
            die()

    compress(model, parse_recipe(json.loads(recipe)), Path(out), progress=progress)


if __name__ == "__main__":
    main(*sys.argv[1:])
