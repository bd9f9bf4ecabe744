"""What `make demo` hands on to the program."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.support.servers import ROOT


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ([], ["demo"]),
        (["ONCE=1"], ["demo --once"]),
        (["RECOVERY=1000"], ["demo --recovery 1000"]),
        (["ONCE=0", "PORT=8123"], ["demo", "PORT=8123"]),
        (["REDIS_URL=redis://there/0"], ["demo", "REDIS_URL=redis://there/0"]),
        (["PORT=1", "REDIS_URL=redis://x"], ["demo", "PORT=1", "REDIS_URL=redis://x"]),
        (["PORT=", "REDIS_URL="], ["demo"]),
    ],
)
def test_the_demo_gets_the_settings_that_were_given(
    given: list[str], expected: list[str], tmp_path: Path
) -> None:
    program = tmp_path / "infoprune"
    program.write_text('#!/bin/sh\necho "$@"\nenv | grep -E "^(PORT|REDIS_URL)=" | sort\n')
    program.chmod(0o755)
    environment = {k: v for k, v in os.environ.items() if k not in {"PORT", "REDIS_URL"}}

    done = subprocess.run(
        ["make", "--no-print-directory", "demo", "PYTHON=true", f"BIN={tmp_path}", *given],
        cwd=ROOT, env=environment, capture_output=True, text=True, check=True,
    )  # fmt: skip

    assert done.stdout.split("\n")[:-1] == expected
