from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.errors import ModelNotFoundError, WorkerNotReadyError
from service.registry import Flops, ModelEntry, Snapshot, WorkerState, WorkerStatus
from service.routing.policy import choose_worker, find_model, least_loaded

NO_FLOPS = Flops(vision=0, projector=0, prefill=0, decode_token=0, visual_tokens=0, text_tokens=0)


def entry(name: str) -> ModelEntry:
    return ModelEntry(name=name, path="/m", variant="original", params=1, flops=NO_FLOPS)


def worker(
    number: int, status: WorkerStatus = "ready", model: str = "a", error: str | None = None
) -> WorkerState:
    return WorkerState(id=f"w{number}", model=model, url="http://x", status=status, error=error)


def test_an_unknown_model_is_told_which_exist() -> None:
    snapshot = Snapshot(models={"a": entry("a")})
    assert find_model(snapshot, "a").name == "a"
    with pytest.raises(ModelNotFoundError, match="'b' does not exist; models: a"):
        find_model(snapshot, "b")


@given(st.lists(st.tuples(st.sampled_from(["ready", "starting", "backoff"]), st.integers(0, 9))))
def test_the_least_loaded_ready_worker_answers(states: list[tuple[WorkerStatus, int]]) -> None:
    workers = [worker(i, status) for i, (status, _) in enumerate(states)]
    load = {f"w{i}": count for i, (_, count) in enumerate(states)}

    chosen = least_loaded(workers, load)

    ready = [count for status, count in states if status == "ready"]
    assert (chosen is None) == (not ready)
    if chosen is not None:
        assert chosen.status == "ready"
        assert load[chosen.id] == min(ready)


def test_only_the_models_own_workers_answer() -> None:
    snapshot = Snapshot(workers=(worker(1, model="b"), worker(2)))
    assert choose_worker(snapshot, "a", {"w2": 99}).id == "w2"


def test_why_no_worker_is_ready_is_told() -> None:
    failed = Snapshot(workers=(worker(1, "backoff", error="vLLM ended with status 1."),))
    with pytest.raises(WorkerNotReadyError, match="vLLM ended with status 1; try again"):
        choose_worker(failed, "a", {})
    with pytest.raises(WorkerNotReadyError, match="it is starting"):
        choose_worker(Snapshot(workers=(worker(1, "starting"),)), "a", {})
