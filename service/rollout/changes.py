"""Changes of an alias: pure functions from one alias to the next. Who may do them is checked here."""

from __future__ import annotations

from collections.abc import Collection

from service.errors import AliasStateError, UnknownTargetError
from service.rollout.records import (
    FORMER_KEPT,
    Alias,
    Canary,
    CanaryOutcome,
    CanaryRules,
    Setting,
    Shadow,
    Target,
)


def check_targets(alias: Alias, active: Collection[str]) -> None:
    """Check that everything that an alias points to can be asked.

    Raises:
        UnknownTargetError: names the first that cannot.
        AliasStateError: two targets are the same model.
    """
    for model in sorted(alias.models):
        if model not in active:
            raise UnknownTargetError(model, active)
    if len({target.model for target in alias.targets}) < len(alias.targets):
        raise AliasStateError(f"The alias {alias.name!r} names a model twice; give it one weight.")


def create(name: str, setting: Setting, *, now: float) -> Alias:
    """A new alias."""
    return Alias(name=name, **dict(setting), updated=now)


def set_targets(alias: Alias, setting: Setting, *, now: float) -> Alias:
    """Other targets, weights or stickiness; a shadow stays.

    Raises:
        AliasStateError: a canary is running.
    """
    _refuse_during_canary(alias)
    if setting == alias.setting:
        return _next(alias, now=now)
    return _next(alias, now=now, **dict(setting), former=_remembered(alias))


def set_shadow(alias: Alias, shadow: Shadow | None, *, now: float) -> Alias:
    """Begin, change or end a shadow.

    Raises:
        AliasStateError: a canary is running, or the candidate is what answers already.
    """
    _refuse_during_canary(alias)
    if shadow is not None and shadow.candidate in {t.model for t in alias.targets}:
        raise AliasStateError(
            f"The model {shadow.candidate!r} answers {alias.name!r} already; shadow another one."
        )
    return _next(alias, now=now, shadow=shadow)


def promote(alias: Alias, model: str, *, now: float) -> Alias:
    """One model answers everything from now on; a canary or shadow of it ends.

    Raises:
        AliasStateError: a canary of another model is running.
    """
    canary, outcome = alias.canary, alias.last_canary
    if canary is not None:
        if canary.candidate != model:
            _refuse_during_canary(alias)
        outcome = _outcome(canary, "promoted", "Promoted by hand.", now)
    shadow = alias.shadow if alias.shadow and alias.shadow.candidate != model else None
    return _next(
        alias, now=now, targets=(Target(model=model),), canary=None, shadow=shadow,
        last_canary=outcome, former=_remembered(alias),
    )  # fmt: skip


def roll_back(alias: Alias, why: str = "", *, now: float) -> Alias:
    """End a running canary; where none runs, go back to the former targets.

    Raises:
        AliasStateError: there is nothing to go back to.
    """
    if alias.canary is not None:
        said = f"Rolled back by hand: {why}" if why else "Rolled back by hand."
        return end_canary(alias, "stopped", said, now=now)
    if not alias.former:
        raise AliasStateError(
            f"The alias {alias.name!r} has no former state; there is nothing to roll back to."
        )
    *rest, last = alias.former
    return _next(alias, now=now, **dict(last), former=tuple(rest), shadow=None)


def start_canary(alias: Alias, candidate: str, rules: CanaryRules, *, now: float) -> Alias:
    """Give the candidate the first step's share. A shadow of the alias ends.

    Raises:
        AliasStateError: a canary runs, the alias has several targets, the candidate is its target, or
            the steps do not ascend.
    """
    _refuse_during_canary(alias)
    if len(alias.targets) > 1:
        raise AliasStateError(
            f"The alias {alias.name!r} has {len(alias.targets)} targets, but a canary is compared with "
            "one; promote one of them first."
        )
    reference = alias.targets[0].model
    if candidate == reference:
        raise AliasStateError(
            f"{candidate!r} is what answers {alias.name!r}; a canary needs another model."
        )
    if list(rules.steps) != sorted(set(rules.steps)):
        raise AliasStateError("The canary's steps must ascend, such as 1, 5, 25, 50, 100.")
    canary = Canary(
        candidate=candidate, reference=reference, rules=rules, started=now, step_started=now
    )
    return _next(alias, now=now, canary=canary, shadow=None)


def begin_canary(
    known: Alias | None, name: str, original: str, candidate: str, rules: CanaryRules, *, now: float
) -> Alias:
    """Start a canary against `original`; where there is no alias yet, one that it answers is made.

    Raises:
        AliasStateError: another model answers the alias, or the canary cannot start.
    """
    alias = known or create(name, Setting(targets=(Target(model=original),)), now=now)
    answering = [target.model for target in alias.targets]
    if answering != [original]:
        raise AliasStateError(
            f"The alias {name!r} is answered by {', '.join(answering)}, not by {original!r} alone; "
            "leave the original out, or set the alias first."
        )
    return start_canary(alias, candidate, rules, now=now)


def climb(alias: Alias, *, answers: int, now: float) -> Alias:
    """The next step. `answers` of the candidate were counted so far.

    Raises:
        AliasStateError: no canary runs, or it is at its last step.
    """
    canary = _running(alias)
    if canary.is_last_step:
        raise AliasStateError(f"The canary of {alias.name!r} is at its last step.")
    changes = {"step": canary.step + 1, "step_started": now, "step_base": answers}
    return _next(alias, now=now, canary=canary.model_copy(update=changes))


def finish_canary(alias: Alias, reason: str, *, now: float) -> Alias:
    """Promote the candidate, because the canary showed what it had to.

    Raises:
        AliasStateError: no canary runs.
    """
    canary = _running(alias)
    promoted = promote(alias, canary.candidate, now=now)
    outcome = _outcome(canary, "promoted", reason, now)
    return promoted.model_copy(update={"last_canary": outcome})


def end_canary(alias: Alias, how: str, reason: str, *, now: float) -> Alias:
    """The reference answers everything again; the reason is kept.

    Raises:
        AliasStateError: no canary runs.
    """
    canary = _running(alias)
    return _next(alias, now=now, canary=None, last_canary=_outcome(canary, how, reason, now))


def _outcome(canary: Canary, how: str, reason: str, now: float) -> CanaryOutcome:
    return CanaryOutcome.model_validate(
        {
            "candidate": canary.candidate, "reference": canary.reference, "outcome": how,
            "percent": canary.percent, "reason": reason, "ended": now, "id": canary.id,
        }
    )  # fmt: skip


def _running(alias: Alias) -> Canary:
    if alias.canary is None:
        raise AliasStateError(f"No canary of {alias.name!r} is running.")
    return alias.canary


def _refuse_during_canary(alias: Alias) -> None:
    if alias.canary is not None:
        raise AliasStateError(
            f"A canary of {alias.canary.candidate!r} is running on {alias.name!r}; promote it or roll "
            "it back first."
        )


def _remembered(alias: Alias) -> tuple[Setting, ...]:
    return (*alias.former, alias.setting)[-FORMER_KEPT:]


def _next(alias: Alias, *, now: float, **changes: object) -> Alias:
    return alias.model_copy(update={**changes, "version": alias.version + 1, "updated": now})
