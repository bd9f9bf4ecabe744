"""Metrics that mirror the store: made at every scrape, so that what is gone leaves nothing.

A restart of the gateway loses none of them, and every process of it says the same.
"""

from __future__ import annotations

import platform
import time
from collections import Counter as Count
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import version
from typing import get_args

from prometheus_client.core import Metric

from service.jobs.records import FINAL, JobRecord, JobStatus, Priority
from service.registry import Snapshot, WorkerStatus
from service.telemetry import catalogue as c

FLOPS_PARTS = ("vision", "projector", "prefill", "decode_token")
BOUNDS = ("value", "low", "high")
STAGES = ("calibrate", "score", "plan", "prune", "heal", "evaluate", "export")
"""The compressor's, which cannot be asked here: it brings torch along."""


class ModelsCollector:
    """Models, what was measured of them, and their workers."""

    def __init__(self) -> None:
        self.snapshot = Snapshot()

    def collect(self) -> Iterator[Metric]:
        """What a scrape gets."""
        snapshot = self.snapshot
        yield from _models(snapshot)
        yield from _workers(snapshot)
        yield from _usage(snapshot)


def _models(snapshot: Snapshot) -> Iterator[Metric]:
    parameters, flops = c.PARAMETERS.gauges(), c.FLOPS.gauges()
    accuracy, samples = c.ACCURACY.gauges(), c.ACCURACY_SAMPLES.gauges()
    for entry in snapshot.models.values():
        labels = (entry.name, entry.variant)
        if entry.params:  # nothing is known of a model that is served elsewhere
            parameters.add_metric(labels, entry.params)
            for part in FLOPS_PARTS:
                flops.add_metric((*labels, part), getattr(entry.flops, part))
        for dataset, interval in entry.accuracy.items():
            samples.add_metric((*labels, dataset), interval.n)
            for bound in BOUNDS:
                accuracy.add_metric((*labels, dataset, bound), getattr(interval, bound))
    yield from (parameters, flops, accuracy, samples)


def _workers(snapshot: Snapshot) -> Iterator[Metric]:
    ready, by_status = c.READY.gauges(), c.WORKERS.gauges()
    counts = Count((worker.model, worker.status) for worker in snapshot.workers)
    for entry in snapshot.models.values():
        labels = (entry.name, entry.variant)
        ready.add_metric(labels, counts[entry.name, "ready"])
        for status in get_args(WorkerStatus):
            by_status.add_metric((*labels, status), counts[entry.name, status])
    yield from (ready, by_status)


def _usage(snapshot: Snapshot) -> Iterator[Metric]:
    """What the workers' manager measured, of each worker that it started."""
    restarts, cpu = c.RESTARTS.counters(), c.CPU.counters()
    memory, gpu_memory, gpu_busy = c.RESIDENT.gauges(), c.GPU_MEMORY.gauges(), c.GPU_BUSY.gauges()
    kv_cache = c.KV_CACHE.gauges()
    for worker in snapshot.workers:
        entry = snapshot.models.get(worker.model)
        if entry is None or not worker.managed:
            continue
        labels = (entry.name, entry.variant, worker.id)
        restarts.add_metric(labels, worker.restarts)
        usage = worker.usage
        if usage is None:
            continue
        cpu.add_metric(labels, usage.cpu_s)
        memory.add_metric(labels, usage.resident_bytes)
        if usage.gpu_bytes is not None:
            gpu_memory.add_metric(labels, usage.gpu_bytes)
        if usage.gpu_busy is not None:
            gpu_busy.add_metric(labels, usage.gpu_busy)
        if usage.kv_cache_used is not None:
            kv_cache.add_metric(labels, usage.kv_cache_used)
    yield from (restarts, cpu, memory, gpu_memory, gpu_busy, kv_cache)


class JobsCollector:
    """Jobs, from their records."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self.jobs: Sequence[JobRecord] = ()

    def collect(self) -> Iterator[Metric]:
        """What a scrape gets."""
        jobs = self.jobs
        yield _by_status(jobs)
        yield from _queue(jobs, self._clock())
        yield from _durations(jobs)


def _by_status(jobs: Sequence[JobRecord]) -> Metric:
    found, counts = c.JOBS.gauges(), Count(job.status for job in jobs)
    for status in get_args(JobStatus):
        found.add_metric((status,), counts[status])
    return found


def _queue(jobs: Sequence[JobRecord], now: float) -> Iterator[Metric]:
    waiting = [job for job in jobs if job.status == "queued"]
    queued, oldest = c.QUEUED.gauges(), c.OLDEST.gauges()
    counts = Count(job.priority for job in waiting)
    for priority in get_args(Priority):
        queued.add_metric((priority,), counts[priority])
    since = min((job.queued or job.created for job in waiting), default=now)
    oldest.add_metric((), max(0.0, now - since))
    yield from (queued, oldest)


def _durations(jobs: Sequence[JobRecord]) -> Iterator[Metric]:
    whole, stages = c.JOB_DURATION.histograms(), c.STAGE_DURATION.histograms()
    for status in FINAL:
        over = [job for job in jobs if job.status == status]
        seconds = [job.ended - job.started for job in over if job.started and job.ended]
        c.JOB_DURATION.add_values(whole, (status,), seconds)
    finished = [job for job in jobs if job.status == "finished"]
    for stage in STAGES:
        spent = [job.stages[stage] for job in finished if stage in job.stages]
        c.STAGE_DURATION.add_values(stages, (stage,), spent)
    yield from (whole, stages)


class BuildCollector:
    """Which build this is."""

    def collect(self) -> Iterator[Metric]:
        """What a scrape gets."""
        found = c.BUILD_INFO.gauges()
        found.add_metric((version("infoprune"), platform.python_version()), 1)
        yield found
