"""Which model answers a name: the model that has it, or the choice of an alias. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from service.registry import ModelEntry, Snapshot
from service.routing.policy import find_model


@dataclass(frozen=True)
class Choice:
    """The model that answers a request, and the one that is asked beside it."""

    entry: ModelEntry
    alias: str | None = None
    """The alias that was asked for; None where the client named the model itself."""
    shadow: ModelEntry | None = None
    """The candidate that gets a copy of this request off the client's path."""


def choose_model(snapshot: Snapshot, name: str, *, session: str | None, draw: float) -> Choice:
    """The model for one request.

    Args:
        snapshot: the registry.
        name: what the client asked for.
        session: the client's `user` or session header, which an alias may stick to.
        draw: uniform in [0, 1), of this request.

    Raises:
        ModelNotFoundError: there is neither a model nor an alias of that name.
    """
    del session, draw  # no aliases yet
    return Choice(find_model(snapshot, name))
