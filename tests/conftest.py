"""Marks every test by its folder and gives it that folder's time limit."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

TESTS = Path(__file__).parent
# Limits catch what hangs, so they leave room for a machine several times slower than this one.
TIMEOUT_S = {
    "unit": 120,
    "integration": 300,
    "e2e": 900,
    "faults": 900,
    "fuzz": 1800,
    "browser": 300,
}
FACTOR = float(
    os.environ.get("TEST_TIMEOUT_FACTOR", "1")
)  # for a machine that does other things too

# A busy machine is no bug; the folder's time limit stays.
settings.register_profile("patient", deadline=None)
settings.load_profile("patient")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if TESTS not in item.path.parents:
            continue
        folder = item.path.relative_to(TESTS).parts[0]
        if folder not in TIMEOUT_S:
            raise pytest.UsageError(f"{item.path} must be in one of {', '.join(TIMEOUT_S)}/.")
        item.add_marker(getattr(pytest.mark, folder))
        if item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(TIMEOUT_S[folder] * FACTOR))


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Times that tests measure are none that a user's own compressions should find."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("INFOPRUNE_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))
        yield
