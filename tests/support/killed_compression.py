"""Compress a model in a process that kills itself with SIGKILL once it has come to a stage.

python -m tests.support.killed_compression MODEL RECIPE_JSON OUT [STAGE SHARE]
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path

from compressor.pipeline import Stage, compress
from compressor.recipe import parse_recipe


def main(model: str, recipe: str, out: str, stage: str = "", share: str = "0") -> None:
    """Run, and die at the first report of `stage` with at least `share` of it done."""

    def progress(now: Stage, done: float) -> None:
        if now == stage and done >= float(share):
            os.kill(os.getpid(), signal.SIGKILL)

    compress(model, parse_recipe(json.loads(recipe)), Path(out), progress=progress)


if __name__ == "__main__":
    main(*sys.argv[1:])
