"""Which model answers the name that a client asked for: that model, or an alias's choice. Pure.

An alias splits its requests by up to three uniform numbers: is it the canary's, which target, and is it
copied to a shadow. For a client that is known by a session the first two are a hash of the session, so
that it stays with its model; and as the canary's share grows, it only ever moves to the canary.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import blake2b

from service.errors import ModelNotFoundError, ModelRetiredError
from service.registry import ModelEntry, Snapshot
from service.rollout.records import Alias, Target

_2_64 = float(2**64)


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
        ModelRetiredError: the model was taken out of service.
    """
    alias = snapshot.aliases.get(name)
    if alias is None:
        return Choice(_named(snapshot, name))
    canary_draw, target_draw, shadow_draw = uniforms(alias, session, draw)
    if alias.canary is not None:
        return _with_canary(snapshot, alias, canary_draw, shadow_draw)
    entry = snapshot.models[_target(snapshot, alias.targets, target_draw)]
    shadow = alias.shadow
    if shadow is None or shadow_draw >= shadow.share:
        return Choice(entry, name)
    return Choice(entry, name, _if_ready(snapshot, shadow.candidate))


def uniforms(alias: Alias, session: str | None, draw: float) -> tuple[float, float, float]:
    """Three independent uniforms in [0, 1): for the canary, the target and the shadow.

    Without a session they are the leading, middle and last bits of `draw`, which has 53.
    """
    if session is None or not alias.sticky:
        return draw, (draw * 131072.0) % 1.0, (draw * 17179869184.0) % 1.0
    digest = blake2b(session.encode(errors="replace"), digest_size=16, key=alias.name.encode())
    number = int.from_bytes(digest.digest())
    return (number >> 64) / _2_64 % 1.0, (number & 0xFFFFFFFFFFFFFFFF) / _2_64 % 1.0, draw


def _named(snapshot: Snapshot, name: str) -> ModelEntry:
    entry = snapshot.models.get(name)
    if entry is None:
        raise ModelNotFoundError(name, [*snapshot.aliases, *snapshot.models])
    if entry.state != "active":
        raise ModelRetiredError(name)
    return entry


def _with_canary(
    snapshot: Snapshot, alias: Alias, canary_draw: float, shadow_draw: float
) -> Choice:
    """The candidate for its share, if it can answer; the other of the two may get a copy."""
    canary = alias.canary
    assert canary is not None
    reference = snapshot.models[canary.reference]
    candidate = _if_ready(snapshot, canary.candidate)
    if candidate is None:
        return Choice(reference, alias.name)
    mirrored = shadow_draw < canary.rules.mirror
    if canary_draw < canary.percent / 100:
        return Choice(
            candidate, alias.name, _if_ready(snapshot, reference.name) if mirrored else None
        )
    return Choice(reference, alias.name, candidate if mirrored else None)


def _if_ready(snapshot: Snapshot, model: str) -> ModelEntry | None:
    return snapshot.models[model] if model in snapshot.ready_models else None


def _target(snapshot: Snapshot, targets: tuple[Target, ...], draw: float) -> str:
    """By weight among the targets that can answer; among all where none can."""
    if len(targets) == 1:
        return targets[0].model
    ready = [target for target in targets if target.model in snapshot.ready_models]
    among = ready or targets
    left = draw * sum(target.weight for target in among)
    for target in among:
        left -= target.weight
        if left < 0:
            return target.model
    return among[-1].model
