"""What was measured of served models is kept with them: the page, the metrics and `top` show it."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import structlog

from compressor.evaluate.metrics import Interval as Measured
from service.errors import ModelNotFoundError
from service.registry import Interval, ModelEntry, Registry

log = structlog.get_logger()


def keep(
    registry: Registry,
    accuracy: Mapping[str, Mapping[str, Measured]],
    difference: Mapping[str, Measured],
    *,
    evaluation: str,
) -> None:
    """Keep accuracies by model and dataset; a model that was deleted meanwhile is left out.

    Args:
        registry: where the models are.
        accuracy: of one model or two.
        difference: the second's less the first's by dataset, paired by question.
        evaluation: what measured it.
    """
    first = next(iter(accuracy))
    for model, measured in accuracy.items():
        change = partial(
            with_accuracy,
            accuracy=measured,
            difference=difference,
            reference=first,
            evaluation=evaluation,
        )
        try:
            registry.update_model(model, change)
        except ModelNotFoundError:
            log.info("accuracy not kept", model=model, reason="the model was deleted")


def with_accuracy(
    entry: ModelEntry,
    *,
    accuracy: Mapping[str, Measured],
    difference: Mapping[str, Measured],
    reference: str,
    evaluation: str,
) -> ModelEntry:
    """The entry with newer figures; a difference counts only from its own original. Pure."""
    intervals = {name: Interval.model_validate(i.to_json()) for name, i in accuracy.items()}
    changed: dict[str, Any] = {"accuracy": entry.accuracy | intervals, "evaluation": evaluation}
    if difference and entry.base == reference:
        known = entry.measured or {}
        newer = {name: interval.to_json() for name, interval in difference.items()}
        both = (known.get("accuracy_difference") or {}) | newer
        changed["measured"] = known | {"accuracy_difference": both}
    return entry.model_copy(update=changed)
