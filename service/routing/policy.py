"""Which worker answers a request. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from service.errors import ModelNotFoundError, WorkerNotReadyError
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


def least_loaded(workers: Sequence[WorkerState], load: Mapping[str, int]) -> WorkerState | None:
    """The ready worker with the fewest requests in flight (by worker id); ties by id."""
    ready = [worker for worker in workers if worker.status == "ready"]
    return min(ready, key=lambda w: (load.get(w.id, 0), w.id), default=None)


def choose_worker(snapshot: Snapshot, name: str, load: Mapping[str, int]) -> WorkerState:
    """The worker that shall answer a request to a model.

    Raises:
        WorkerNotReadyError: none is ready; says why, if one failed.
    """
    workers = workers_of(snapshot, name)
    chosen = least_loaded(workers, load)
    if chosen is None:
        reasons = [worker.error for worker in workers if worker.error]
        raise WorkerNotReadyError(name, reasons[0].rstrip(".") if reasons else None)
    return chosen
