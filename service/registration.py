"""Models that an operator names are put into the registry, with what was known of them before."""

from __future__ import annotations

import json
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from service.errors import ModelInUseError
from service.registry import Interval, ModelEntry, Registry

_ACCURACY = TypeAdapter(dict[str, Interval])


def register(registry: Registry, entries: Iterable[ModelEntry]) -> None:
    """Register models, once or again; measurements of an earlier time are kept.

    Originals come first, so that a compressed model finds its own.

    Raises:
        ModelInUseError: another compressed model has such a name.
    """
    for entry in sorted(entries, key=lambda each: each.variant == "compressed"):
        base, found = None if entry.base is None else registry.model(entry.base), entry
        if base is not None and is_original_of(base, entry):
            registry.update_model(base.name, partial(with_accuracy_of, compressed=entry))
        else:
            found = entry.model_copy(update={"base": None})
        try:
            registry.put_model(named_again(registry.model(entry.name), found))
        except ModelInUseError as error:
            raise ModelInUseError(
                f"Another compressed model was registered as {entry.name!r}, after its directory: "
                "rename the directory, or leave it out, start, and `infoprune models retire` and "
                "`delete` the model that was there."
            ) from error


def with_accuracy_of(original: ModelEntry, compressed: ModelEntry) -> ModelEntry:
    """An original's entry with the accuracies that its compressed model's report gives of it. Pure.

    Of two measurements of one dataset that of more questions counts.
    """
    try:
        told = _ACCURACY.validate_python((compressed.measured or {})["original"]["accuracy"])
    except (LookupError, TypeError, ValidationError):
        return original
    own = {
        name: i for name, i in original.accuracy.items() if name not in told or i.n > told[name].n
    }
    return original.model_copy(update={"accuracy": {**told, **own}})


def named_again(known: ModelEntry | None, entry: ModelEntry) -> ModelEntry:
    """The entry of a model that is named by an operator, with what was known of it. Pure."""
    if known is None:
        return entry
    same = known.path == entry.path and known.plan_sha256 in {None, entry.plan_sha256}
    if known.variant == "compressed" and same:
        return known.model_copy(update={"state": "active", "retired_at": None})
    return entry.model_copy(update={"accuracy": known.accuracy, "created": known.created})


def with_lineage(entry: ModelEntry) -> ModelEntry:
    """A compressed model's entry with what its checkpoint says of where it comes from.

    Its original is named as it was when it was compressed; `register` drops a name that is not
    registered, or is another model's. A checkpoint without a report is served all the same.
    """
    place = Path(entry.path)
    try:
        measured = _read(place / "report.json")
        found: dict[str, Any] = {
            "base": measured["model"],
            "plan_sha256": _read(place / "config.json")["compression"]["plan_sha256"],
            "recipe": _read(place / "report" / "data.json")["recipe"],
            "measured": measured,
            "accuracy": _ACCURACY.validate_python(measured["compressed"]["accuracy"]),
            "report": str(place / "report.json"),
        }
    except (OSError, ValueError, LookupError, TypeError, ValidationError):
        return entry
    return entry.model_copy(update=found)


def is_original_of(base: ModelEntry | None, entry: ModelEntry) -> bool:
    """Whether a registered model is what `entry` says that it was made of. Pure."""
    if base is None or base.variant != "original":
        return False
    original = (entry.measured or {}).get("original", {})
    return bool(original.get("params") == base.params)


def _read(path: Path) -> Any:
    return json.loads(path.read_text())
