"""Where Prometheus finds the engines' own metrics: HTTP service discovery, from the registry.

Every `vllm:*` series so gets the labels that ours have. A worker that starts again keeps its id.
Format: https://prometheus.io/docs/prometheus/latest/http_sd/
"""

from __future__ import annotations

from urllib.parse import urlsplit

from pydantic import BaseModel

from service.registry import ModelEntry, Snapshot, WorkerState


class TargetGroup(BaseModel):
    """One worker."""

    targets: list[str]
    """`host:port`."""
    labels: dict[str, str]


def targets(snapshot: Snapshot) -> list[TargetGroup]:
    """The workers that can answer. Pure."""
    return [
        _group(worker, snapshot.models[worker.model])
        for worker in snapshot.workers
        if worker.status == "ready" and worker.model in snapshot.models
    ]


def _group(worker: WorkerState, entry: ModelEntry) -> TargetGroup:
    parts = urlsplit(worker.url)
    host = parts.netloc.rpartition("@")[2]
    if parts.port is None:
        host = f"{host.rstrip(':')}:{443 if parts.scheme == 'https' else 80}"
    labels = {"model": entry.name, "variant": entry.variant, "worker": worker.id}
    if parts.scheme == "https":
        labels["__scheme__"] = "https"
    if parts.path.rstrip("/"):
        labels["__metrics_path__"] = f"{parts.path.rstrip('/')}/metrics"
    return TargetGroup(targets=[host], labels=labels)
