"""What a snapshot of the registry says of a name. Pure."""

from __future__ import annotations

from service.errors import ModelNotFoundError
from service.registry import ModelEntry, Snapshot, WorkerState


def find_model(snapshot: Snapshot, name: str) -> ModelEntry:
    """The registered model of that name.

    Raises:
        ModelNotFoundError: there is none.
    """
    entry = snapshot.models.get(name)
    if entry is None:
        raise ModelNotFoundError(name, list(snapshot.models))
    return entry


def workers_of(snapshot: Snapshot, name: str) -> list[WorkerState]:
    """The workers of a model, whatever their status."""
    return [worker for worker in snapshot.workers if worker.model == name]
