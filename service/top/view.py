"""What is shown: models with their originals, aliases, jobs. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from service.errors import AliasNotFoundError, ModelNotFoundError
from service.top.models import Accuracy, ModelRow, Ratios


@dataclass(frozen=True)
class AliasRow:
    """Who answers a name, and the candidate beside."""

    alias: str
    targets: Mapping[str, float]
    """Share of the requests by model; the rest goes to the canary."""
    candidate: str | None
    kind: str | None
    """`canary` or `shadow`."""
    percent: float | None
    """Of the requests, to the canary."""
    step: int | None
    """Counted from 1."""
    steps: int | None
    agreement: Accuracy | None
    pairs: int
    next: str | None
    """What the canary does next, and why."""
    last: str | None
    """How the last canary ended."""


@dataclass(frozen=True)
class JobRow:
    """A compression job that waits or runs, or ended lately."""

    id: str
    name: str
    status: str
    stage: str | None
    percent: float
    seconds_left: float | None


@dataclass(frozen=True)
class View:
    """One refresh."""

    window_s: float
    models: tuple[ModelRow, ...]
    ratios: tuple[Ratios, ...]
    aliases: tuple[AliasRow, ...]
    jobs: tuple[JobRow, ...]
    notes: tuple[str, ...] = ()
    """What could not be read, each in one sentence."""

    def to_json(self) -> dict[str, Any]:
        """As JSON's types."""
        return asdict(self)


def canary_percent(found: Mapping[str, Any]) -> float | None:
    """Of an alias's requests, to its canary; None where none runs."""
    canary = found["canary"]
    return None if canary is None else float(canary["rules"]["steps"][canary["step"]])


def shares(found: Mapping[str, Any]) -> dict[str, float]:
    """Share of an alias's requests by target, those to a canary not among them."""
    total = sum(target["weight"] for target in found["targets"])
    rest = 1 - (canary_percent(found) or 0) / 100
    return {target["model"]: rest * target["weight"] / total for target in found["targets"]}


def alias_row(view: Mapping[str, Any]) -> AliasRow:
    """An alias as `GET /aliases/NAME` describes it."""
    found, compared = view["alias"], view["comparison"]
    canary, shadow, last = found["canary"], found["shadow"], found["last_canary"]
    beside = canary or shadow
    agreement = compared and compared["agreement"]
    known = agreement and agreement["value"] is not None
    return AliasRow(
        alias=found["name"],
        targets=shares(found),
        candidate=beside and beside["candidate"],
        kind="canary" if canary else "shadow" if shadow else None,
        percent=canary_percent(found),
        step=canary and canary["step"] + 1,
        steps=canary and len(canary["rules"]["steps"]),
        agreement=Accuracy(*(agreement[k] for k in ("value", "low", "high"))) if known else None,
        pairs=agreement["n"] if agreement else 0,
        next=f"{compared['next']}: {compared['reason']}" if compared and compared["next"] else None,
        last=last and f"{last['candidate']} {last['outcome']}: {last['reason']}",
    )


def job_rows(jobs: Iterable[Mapping[str, Any]], *, ended_since: float) -> tuple[JobRow, ...]:
    """Jobs as `GET /compress` lists them: those not over, and those that ended since (Unix time)."""
    keys = ("id", "name", "status", "stage", "percent", "seconds_left")
    return tuple(
        JobRow(**{key: job[key] for key in keys})
        for job in jobs
        if job["ended"] is None or job["ended"] >= ended_since
    )


def check_names(view: View, models: frozenset[str], aliases: frozenset[str]) -> None:
    """Check that what shall be shown is there; a model may still be what a job makes. Pure.

    Nothing is said where the key may not see everything.

    Raises:
        ModelNotFoundError: there is no such model.
        AliasNotFoundError: there is no such alias.
    """
    if view.notes:
        return
    known = [row.model for row in view.models]
    for name in sorted(models - {*known, *(job.name for job in view.jobs)}):
        raise ModelNotFoundError(name, known)
    named = [row.alias for row in view.aliases]
    for name in sorted(aliases - {*named}):
        raise AliasNotFoundError(name, named)


def only(view: View, models: frozenset[str], aliases: frozenset[str]) -> View:
    """The named models and aliases, and the jobs that make those models; all where none is named.

    The originals of the named models stay, and the models of the named aliases: they are what is
    compared with.
    """
    if not models and not aliases:
        return view
    shown = tuple(a for a in view.aliases if a.alias in aliases)
    wanted = set(models)
    for alias in shown:
        wanted |= {*alias.targets, *([alias.candidate] if alias.candidate else [])}
    wanted |= {row.base for row in view.models if row.model in wanted and row.base is not None}
    return View(
        window_s=view.window_s,
        models=tuple(row for row in view.models if row.model in wanted),
        ratios=tuple(r for r in view.ratios if {r.original, r.compressed} <= wanted),
        aliases=shown,
        jobs=tuple(job for job in view.jobs if job.name in wanted),
        notes=view.notes,
    )
