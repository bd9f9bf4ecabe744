"""Registry entries and snapshots for tests."""

from __future__ import annotations

from typing import Any

from service.registry import Flops, ModelEntry, Snapshot, WorkerState
from service.rollout.records import Alias, Canary, CanaryRules, Target

NO_FLOPS = Flops(vision=0, projector=0, prefill=0, decode_token=0, visual_tokens=0, text_tokens=0)


def model(name: str, **changes: Any) -> ModelEntry:
    """A model of that name."""
    fields = {"path": "/nowhere", "variant": "original", "params": 1, "flops": NO_FLOPS}
    return ModelEntry.model_validate({"name": name, **fields, **changes})


def snapshot(*names: str, ready: str | None = None, aliases: tuple[Alias, ...] = ()) -> Snapshot:
    """Models `a`, `b`, ...; those in `ready`, by default all, have a worker that can answer."""
    return Snapshot(
        models={name: model(name) for name in names},
        workers=tuple(
            WorkerState(id=f"w-{name}", model=name, url="http://x", status="ready")
            for name in names
            if ready is None or name in ready
        ),
        aliases={alias.name: alias for alias in aliases},
    )


def alias(name: str, **weights: float) -> Alias:
    """An alias with these targets."""
    targets = tuple(Target(model=model, weight=weight) for model, weight in weights.items())
    return Alias(name=name, targets=targets, updated=0.0)


def canary(candidate: str = "b", reference: str = "a", **changes: Any) -> Canary:
    """A canary at its first step; `rules` as a dictionary."""
    rules = CanaryRules.model_validate(changes.pop("rules", {}))
    fields = {"candidate": candidate, "reference": reference, "step_started": 0.0, "started": 0.0}
    return Canary.model_validate({**fields, "rules": rules, **changes})
