"""Where Prometheus finds the engines."""

from __future__ import annotations

import pytest

from service.gateway.scrape_targets import targets
from service.registry import Snapshot, WorkerState
from tests.support.measured import world
from tests.support.registry import model


def test_ready_workers_are_told_with_their_model_and_variant() -> None:
    assert [group.model_dump() for group in targets(world())] == [
        {"targets": ["h:1"], "labels": {"model": "a", "variant": "original", "worker": "w1"}},
        {"targets": ["h:2"], "labels": {"model": "b", "variant": "compressed", "worker": "w2"}},
    ]


@pytest.mark.parametrize(
    ("url", "target", "more"),
    [
        ("http://h", "h:80", {}),
        ("https://h", "h:443", {"__scheme__": "https"}),
        ("http://[::1]:8000/", "[::1]:8000", {}),
        ("http://user:secret@h:1/engine/", "h:1", {"__metrics_path__": "/engine/metrics"}),
    ],
)
def test_a_url_becomes_address_scheme_and_path(url: str, target: str, more: dict[str, str]) -> None:
    worker = WorkerState(id="w", model="a", url=url, status="ready")
    (group,) = targets(Snapshot(models={"a": model("a")}, workers=(worker,)))
    assert group.targets == [target]
    assert group.labels == {"model": "a", "variant": "original", "worker": "w", **more}


def test_a_worker_of_a_model_that_was_deleted_is_left_out() -> None:
    worker = WorkerState(id="w", model="gone", url="http://h:1", status="ready")
    assert targets(Snapshot(workers=(worker,))) == []
