"""Models that an operator names are put into the registry, with what was known of them before."""

from __future__ import annotations

from collections.abc import Iterable

from service.registry import ModelEntry, Registry


def register(registry: Registry, entries: Iterable[ModelEntry]) -> None:
    """Register models, once or again; measurements of an earlier time are kept.

    Raises:
        ModelInUseError: another compressed model has such a name.
    """
    for entry in entries:
        registry.put_model(named_again(registry.model(entry.name), entry))


def named_again(known: ModelEntry | None, entry: ModelEntry) -> ModelEntry:
    """The entry of a model that is named by an operator, with what was known of it. Pure."""
    if known is None:
        return entry
    if known.variant == "compressed" and known.path == entry.path:
        return known.model_copy(update={"state": "active", "retired_at": None})
    return entry.model_copy(update={"accuracy": known.accuracy, "created": known.created})
