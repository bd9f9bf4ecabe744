from __future__ import annotations

import pytest

from service.errors import ModelNotFoundError
from service.registry import Flops, ModelEntry, Snapshot, WorkerState, WorkerStatus
from service.routing.policy import find_model, workers_of

NO_FLOPS = Flops(vision=0, projector=0, prefill=0, decode_token=0, visual_tokens=0, text_tokens=0)


def entry(name: str) -> ModelEntry:
    return ModelEntry(name=name, path="/m", variant="original", params=1, flops=NO_FLOPS)


def worker(number: int, status: WorkerStatus = "ready", model: str = "a") -> WorkerState:
    return WorkerState(id=f"w{number}", model=model, url="http://x", status=status)


def test_an_unknown_model_is_told_which_exist() -> None:
    snapshot = Snapshot(models={"a": entry("a")})
    assert find_model(snapshot, "a").name == "a"
    with pytest.raises(ModelNotFoundError, match="'b' does not exist; models: a"):
        find_model(snapshot, "b")


def test_a_models_workers_are_its_own_whatever_their_status() -> None:
    snapshot = Snapshot(workers=(worker(1, model="b"), worker(2), worker(3, "starting")))
    assert [found.id for found in workers_of(snapshot, "a")] == ["w2", "w3"]
