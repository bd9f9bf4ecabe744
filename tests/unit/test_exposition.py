"""Metrics of several gateway processes behind one port."""

from __future__ import annotations

import os
import time
from pathlib import Path

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from service.gateway.exposition import STALE_S, ReplicaFiles, exposition


def process(count: int) -> CollectorRegistry:
    registry = CollectorRegistry()
    Counter("infoprune_requests", "x", ("model",), registry=registry).labels("a").inc(count)
    Gauge("infoprune_ready_workers", "x", ("model",), registry=registry).labels("a").set(2)
    latency = Histogram("infoprune_request_latency_seconds", "x", buckets=(1,), registry=registry)
    for _ in range(count):
        latency.observe(0.5)
    return registry


def samples(content: bytes, name: str) -> list[Sample]:
    families = text_string_to_metric_families(content.decode())
    return [s for family in families for s in family.samples if s.name == name]


def test_one_process_says_what_it_has(tmp_path: Path) -> None:
    del tmp_path
    (found,) = samples(exposition(process(3), None), "infoprune_requests_total")
    assert (found.labels, found.value) == ({"model": "a"}, 3)


def test_whichever_process_is_asked_the_sum_is_that_of_all(tmp_path: Path) -> None:
    registries = {str(number): process(number) for number in (1, 2, 3)}
    for name, registry in registries.items():
        ReplicaFiles(tmp_path, name).write(registry)
    for name, registry in registries.items():
        content = exposition(registry, ReplicaFiles(tmp_path, name))
        requests = samples(content, "infoprune_requests_total")
        assert sum(s.value for s in requests) == 6
        assert {s.labels["replica"] for s in requests} == {"1", "2", "3"}
        buckets = samples(content, "infoprune_request_latency_seconds_bucket")
        assert sum(s.value for s in buckets if s.labels["le"] == "1.0") == 6
        (workers,) = samples(content, "infoprune_ready_workers")
        assert (workers.labels, workers.value) == ({"model": "a"}, 2), (
            "the store's state comes once"
        )


def test_the_process_that_is_asked_answers_with_what_it_has_now(tmp_path: Path) -> None:
    files, registry = ReplicaFiles(tmp_path, "1"), process(1)
    files.write(registry)
    (found,) = samples(exposition(process(5), files), "infoprune_requests_total")
    assert found.value == 5


def test_a_process_that_ended_is_forgotten(tmp_path: Path) -> None:
    ended, killed, alive = (ReplicaFiles(tmp_path, name) for name in ("1", "2", "3"))
    for files in (ended, killed, alive):
        files.write(process(1))
    ended.forget()
    old = time.time() - STALE_S - 1
    os.utime(tmp_path / "2.prom", (old, old))
    assert alive.read_others() == {}
    assert [p.name for p in tmp_path.iterdir()] == ["3.prom"]
