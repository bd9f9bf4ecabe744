"""What is shown: models with their originals, aliases, jobs. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from service.errors import AliasNotFoundError, ModelNotFoundError
from service.failures import failed_share, is_answered, is_failed
from service.top.scrape import Between, Scrape


@dataclass(frozen=True)
class Accuracy:
    """As last measured, 0 to 1, with its 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class ModelRow:
    """One model over the window. None: nothing to tell it from, such as no request."""

    model: str
    variant: str
    base: str | None
    """The original of a compressed model."""
    ready: bool
    requests_per_s: float | None
    error_share: float | None
    """Of the requests that count, as `service/failures.py` defines it."""
    p50_s: float | None
    p95_s: float | None
    first_token_p50_s: float | None
    """Of streams."""
    tokens_per_s: float | None
    """Of answers."""
    in_flight: int
    waiting: int
    accuracy: Mapping[str, Accuracy]
    """By dataset."""


@dataclass(frozen=True)
class Ratios:
    """A compressed model's figures over its original's; None where either is missing or 0."""

    original: str
    compressed: str
    requests_per_s: float | None
    p50_s: float | None
    p95_s: float | None
    first_token_p50_s: float | None
    tokens_per_s: float | None
    accuracy: Mapping[str, float | None]


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


def model_rows(between: Between, described: Iterable[Mapping[str, Any]]) -> tuple[ModelRow, ...]:
    """A row for every model.

    Args:
        between: the window's two scrapes.
        described: the models as `GET /v1/models` describes them.
    """
    models = [model for model in described if model["variant"] != "alias"]
    return tuple(_model_row(between, model) for model in models)


def _model_row(between: Between, described: Mapping[str, Any]) -> ModelRow:
    name = described["id"]
    now, latency = between.last, "infoprune_request_latency_seconds"
    return ModelRow(
        model=name,
        variant=described["variant"],
        base=described["base"],
        ready=described["ready"],
        requests_per_s=between.rate("infoprune_requests_total", model=name),
        error_share=_error_share(between, name),
        p50_s=between.quantile(0.5, latency, model=name),
        p95_s=between.quantile(0.95, latency, model=name),
        first_token_p50_s=between.quantile(
            0.5, "infoprune_time_to_first_token_seconds", model=name
        ),
        tokens_per_s=between.rate("infoprune_tokens_total", model=name, kind="completion"),
        in_flight=int(now.total("infoprune_in_flight_requests", model=name)),
        waiting=int(now.total("infoprune_waiting_requests", model=name)),
        accuracy=_accuracy(now, name),
    )


def _error_share(between: Between, model: str) -> float | None:
    name = "infoprune_requests_total"
    statuses = {dict(key)["status"] for key in between.last.series(name, model=model)}
    by_status = {s: between.increase(name, model=model, status=s) for s in statuses}
    failed = sum(count for status, count in by_status.items() if is_failed(status))
    answered = sum(count for status, count in by_status.items() if is_answered(status))
    return failed_share(failed, answered)


def _accuracy(now: Scrape, model: str) -> dict[str, Accuracy]:
    bounds: dict[str, dict[str, float]] = {}
    for key, value in now.series("infoprune_accuracy_ratio", model=model).items():
        labels = dict(key)
        bounds.setdefault(labels["dataset"], {})[labels["bound"]] = value
    return {dataset: Accuracy(**found) for dataset, found in sorted(bounds.items())}


def ratios_of(rows: Sequence[ModelRow]) -> tuple[Ratios, ...]:
    """Every compressed model over its original, where both are there."""
    by_name = {row.model: row for row in rows}
    return tuple(
        _ratios(by_name[row.base], row)
        for row in rows
        if row.base is not None and row.base in by_name
    )


def _ratios(original: ModelRow, compressed: ModelRow) -> Ratios:
    def over(name: str) -> float | None:
        return _ratio(getattr(compressed, name), getattr(original, name))

    return Ratios(
        original=original.model,
        compressed=compressed.model,
        requests_per_s=over("requests_per_s"),
        p50_s=over("p50_s"),
        p95_s=over("p95_s"),
        first_token_p50_s=over("first_token_p50_s"),
        tokens_per_s=over("tokens_per_s"),
        accuracy={
            dataset: _ratio(found.value, original.accuracy[dataset].value)
            for dataset, found in compressed.accuracy.items()
            if dataset in original.accuracy
        },
    )


def _ratio(above: float | None, below: float | None) -> float | None:
    return above / below if above is not None and below else None


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
