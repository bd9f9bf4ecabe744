"""What each process of the service says when it cannot start."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("process", ["service.gateway", "service.jobs", "service.evaluations"])
@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({}, "REDIS_URL is not set"),
        ({"REDIS_URL": "redis://127.0.0.1:1", "PORT": "high"}, "The setting PORT is wrong"),
    ],
)
def test_a_process_with_wrong_settings_ends_in_one_sentence(
    process: str, given: dict[str, str], sentence: str
) -> None:
    kept = {k: v for k, v in os.environ.items() if k not in {"REDIS_URL", "PORT"}}
    done = subprocess.run(
        [sys.executable, "-m", process], env=kept | given, cwd=ROOT, check=False,
        capture_output=True, text=True, timeout=100,
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.startswith(f"infoprune: {sentence}")
    assert "Traceback" not in done.stderr
