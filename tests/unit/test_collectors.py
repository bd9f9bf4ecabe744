"""Metrics that are made of the store at every scrape."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from prometheus_client.core import Metric

from service.registry import Snapshot
from service.telemetry import catalogue as c
from service.telemetry.collectors import JobsCollector, ModelsCollector
from service.telemetry.spec import Spec
from tests.support.measured import job, jobs, world


class Collects(Protocol):
    """Any of the collectors."""

    def collect(self) -> Iterator[Metric]:
        """What a scrape gets."""


def values(collector: Collects, spec: Spec, suffix: str = "") -> dict[tuple[str, ...], float]:
    """Label values, in the spec's order, and the values of a family's samples."""
    (family,) = (f for f in collector.collect() if f.name == spec.name)
    return {
        tuple(s.labels[name] for name in spec.labels): s.value
        for s in family.samples
        if s.name == spec.exposed_name + suffix
    }


def models(snapshot: Snapshot) -> ModelsCollector:
    found = ModelsCollector()
    found.snapshot = snapshot
    return found


def test_workers_are_counted_by_status_and_a_status_without_any_is_zero() -> None:
    found = values(models(world()), c.WORKERS)
    assert found["b", "compressed", "ready"] == found["b", "compressed", "backoff"] == 1
    assert found["a", "original", "backoff"] == 0
    assert values(models(world()), c.READY) == {("a", "original"): 1, ("b", "compressed"): 1}


def test_a_worker_says_what_it_uses_once_that_was_measured() -> None:
    collector, labels = models(world()), ("a", "original", "w1")
    assert values(collector, c.CPU) == {labels: 12.5}
    assert values(collector, c.RESIDENT) == {labels: 1e9}
    assert values(collector, c.GPU_MEMORY) == {labels: 2e9}
    assert values(collector, c.GPU_BUSY) == {labels: 0.75}
    assert values(collector, c.KV_CACHE) == {labels: 0.5}
    assert values(collector, c.RESTARTS)[labels] == 2


def test_without_a_gpu_there_are_no_gpu_metrics() -> None:
    known = world()
    first = known.workers[0]
    assert first.usage is not None
    bare = first.model_copy(
        update={"usage": first.usage.model_copy(update={"gpu_bytes": None, "gpu_busy": None})}
    )
    collector = models(known.model_copy(update={"workers": (bare,)}))
    assert values(collector, c.GPU_MEMORY) == values(collector, c.GPU_BUSY) == {}
    assert len(values(collector, c.RESIDENT)) == 1


def test_accuracy_comes_with_its_bounds_and_its_number_of_questions() -> None:
    labels = ("a", "original", "easy-vqa")
    assert values(models(world()), c.ACCURACY) == {
        (*labels, "value"): 0.9, (*labels, "low"): 0.85, (*labels, "high"): 0.95,
    }  # fmt: skip
    assert values(models(world()), c.ACCURACY_SAMPLES) == {labels: 200}


def test_a_model_that_was_deleted_leaves_nothing() -> None:
    known = world()
    left = known.model_copy(update={"models": {"b": known.models["b"]}})
    for spec in (c.PARAMETERS, c.FLOPS, c.ACCURACY, c.WORKERS, c.CPU):
        assert all(labels[0] != "a" for labels in values(models(left), spec))


def test_nothing_is_said_of_the_size_of_a_model_that_is_served_elsewhere() -> None:
    known = world()
    elsewhere = known.models["a"].model_copy(update={"params": 0})
    collector = models(known.model_copy(update={"models": {"a": elsewhere}}))
    assert values(collector, c.PARAMETERS) == values(collector, c.FLOPS) == {}


def collected(*, now: float) -> JobsCollector:
    found = JobsCollector(lambda: now)
    found.jobs = jobs()
    return found


def test_the_queue_is_told_by_priority_with_the_age_of_its_oldest_job() -> None:
    found = collected(now=180.0)
    assert values(found, c.QUEUED) == {("high",): 1, ("normal",): 0, ("low",): 1}
    assert values(found, c.OLDEST) == {(): 60}
    assert values(found, c.JOBS)["finished",] == 1


def test_an_empty_queue_has_no_age() -> None:
    found = JobsCollector(lambda: 180.0)
    found.jobs = [job(status="finished")]
    assert values(found, c.OLDEST) == {(): 0}


def test_durations_are_those_of_jobs_that_are_over_and_of_their_stages() -> None:
    found = collected(now=180.0)
    assert values(found, c.JOB_DURATION, "_sum")["finished",] == 40
    assert values(found, c.JOB_DURATION, "_count")["failed",] == 0
    assert values(found, c.STAGE_DURATION, "_sum")["calibrate",] == 12
    assert values(found, c.STAGE_DURATION, "_count")["heal",] == 0
