"""What a scrape gets, also where several gateway processes share a port.

A scrape reaches any one of them. Each leaves its metrics in a file every moment, and the one that
is asked answers for all: every series gets a label `replica`, and what is the same everywhere comes
once. So a sum over replicas is right, nothing is shared on the hot path, and a process that ended
takes its series along.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import Metric
from prometheus_client.parser import text_string_to_metric_families

from service.settings import Settings

STALE_S = 10.0
SHARED = frozenset(
    {
        "infoprune_accuracy_ratio", "infoprune_ready_workers", "infoprune_jobs",
        "infoprune_job_duration_seconds", "infoprune_canary_percent",
    }
)  # fmt: skip
"""They mirror the store, and are the same in every process."""


@dataclass(frozen=True)
class ReplicaFiles:
    """The files of the processes on one port."""

    directory: Path
    replica: str

    @classmethod
    def of(cls, settings: Settings) -> ReplicaFiles | None:
        """Those of this process; None where it is the only one."""
        if settings.gateway_processes == 1:
            return None
        return cls(settings.run_dir / "metrics" / str(settings.port), str(os.getpid()))

    def write(self, registry: CollectorRegistry) -> None:
        """Leave this process's metrics for the others."""
        self.directory.mkdir(parents=True, exist_ok=True)
        temporary = self.directory / f".{self.replica}.tmp"
        temporary.write_bytes(generate_latest(registry))
        temporary.rename(self._path(self.replica))

    def forget(self) -> None:
        """This process ends."""
        self._path(self.replica).unlink(missing_ok=True)

    def read_others(self) -> dict[str, str]:
        """The others' metrics by replica; files of processes that ended are removed."""
        found, now = {}, time.time()
        for path in self.directory.glob("*.prom"):
            try:
                if now - path.stat().st_mtime > STALE_S:
                    path.unlink()
                elif path.stem != self.replica:
                    found[path.stem] = path.read_text()
            except FileNotFoundError:
                continue  # it ended just now
        return found

    def _path(self, replica: str) -> Path:
        return self.directory / f"{replica}.prom"


def exposition(registry: CollectorRegistry, files: ReplicaFiles | None) -> bytes:
    """The metrics of this process, or of all that share its port."""
    own = generate_latest(registry)
    if files is None:
        return own
    return merge({files.replica: own.decode()} | files.read_others(), files.replica)


def merge(texts: Mapping[str, str], asked: str) -> bytes:
    """One exposition of several; what they share comes from the one that was asked. Pure."""
    families: dict[str, Metric] = {}
    for replica, text in texts.items():
        for family in text_string_to_metric_families(text):
            shared = family.name in SHARED
            if shared and replica != asked:
                continue
            label = {} if shared else {"replica": replica}
            known = families.setdefault(
                family.name, Metric(family.name, family.documentation, family.type)
            )
            for sample in family.samples:
                known.add_sample(sample.name, {**sample.labels, **label}, sample.value)
    registry = CollectorRegistry()
    registry.register(_Families(families))
    return generate_latest(registry)


class _Families:
    """A collector of what was collected elsewhere."""

    def __init__(self, families: Mapping[str, Metric]) -> None:
        self._families = families

    def collect(self) -> Iterator[Metric]:
        """What a scrape gets."""
        yield from self._families.values()
