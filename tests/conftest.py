"""Marks every test by its folder and gives it that folder's time limit."""

from __future__ import annotations

from pathlib import Path

import pytest

TESTS = Path(__file__).parent
TIMEOUT_S = {"unit": 30, "integration": 120, "e2e": 600, "faults": 900, "fuzz": 1800}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if TESTS not in item.path.parents:
            continue
        folder = item.path.relative_to(TESTS).parts[0]
        if folder not in TIMEOUT_S:
            raise pytest.UsageError(f"{item.path} must be in one of {', '.join(TIMEOUT_S)}/.")
        item.add_marker(getattr(pytest.mark, folder))
        if item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(TIMEOUT_S[folder]))
