"""A registry, jobs and counts in which there is something of everything that metrics tell."""

from __future__ import annotations

from typing import Any

from service.jobs.records import JobRecord
from service.registry import Flops, Interval, Snapshot, Usage, WorkerState
from service.rollout.records import CanaryOutcome
from service.routing.canary import Comparison, SideCounts
from tests.support.registry import alias, canary, model

FLOPS = Flops(
    vision=4e9, projector=1e8, prefill=9e9, decode_token=1e7, visual_tokens=64, text_tokens=20
)


def world() -> Snapshot:
    """An original `a`, its compressed `b` as the canary of `prod`; that of `old` was rolled back."""
    accuracy = {"easy-vqa": Interval(value=0.9, low=0.85, high=0.95, n=200)}
    models = {
        "a": model("a", params=1000, flops=FLOPS, accuracy=accuracy),
        "b": model("b", params=300, flops=FLOPS, variant="compressed", base="a"),
    }
    usage = Usage(
        cpu_s=12.5, resident_bytes=10**9, gpu_bytes=2 * 10**9, gpu_busy=0.75, kv_cache_used=0.5
    )
    workers = (
        WorkerState(id="w1", model="a", url="http://h:1", status="ready", restarts=2, usage=usage),
        WorkerState(id="w2", model="b", url="http://h:2", status="ready"),
        WorkerState(id="w3", model="b", url="http://h:3", status="backoff"),
    )
    running = alias("prod", a=1).model_copy(
        update={"canary": canary(id="pair", step=1, step_started=50.0)}
    )
    ended = CanaryOutcome(
        candidate="b", reference="a", outcome="rolled_back", percent=5, reason="slower", ended=1.0,
        id="x",
    )  # fmt: skip
    over = alias("old", a=3, b=1).model_copy(update={"last_canary": ended})
    return Snapshot(models=models, workers=workers, aliases={"prod": running, "old": over})


def comparison() -> Comparison:
    """Sixty pairs of the canary's, two of which differ."""
    side = SideCounts(served=100, mirrored=60, errors=1, latency={200: 100}, copied={200: 60})
    return Comparison(side, side, pairs=60, agreement=58.0, exact=50.0, vqa=58.0, token=58.5)


def job(**changes: Any) -> JobRecord:
    """A job that was queued at 100."""
    fields = {"id": "1", "model": "a", "name": "b", "recipe": {}, "created": 100.0, "queued": 100.0}
    return JobRecord.model_validate(fields | changes)


def jobs() -> list[JobRecord]:
    """One that is over, two that wait."""
    return [
        job(
            status="finished", started=110.0, ended=150.0, stages={"calibrate": 12.0, "score": 3.0}
        ),
        job(priority="high", queued=130.0),
        job(priority="low", queued=120.0),
    ]
