"""A view as tables for a terminal."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from service.top.view import Accuracy, AliasRow, JobRow, ModelRow, Ratios, View

_Cell = Callable[[ModelRow], str]
_Ratio = Callable[[Ratios], float | None]
_MISSING = "-"


def render(view: View) -> RenderableType:
    """Everything, one table below the other."""
    parts: list[RenderableType] = [_family(view, family) for family in _families(view.models)]
    if not view.models:
        parts.append(Text("No models."))
    elif not any(row.requests_per_s for row in view.models):
        parts.append(Text(f"No request ended in these {view.window_s:.0f} s."))
    if view.aliases:
        parts.append(_aliases(view.aliases))
    if view.jobs:
        parts.append(_jobs(view.jobs))
    parts += [Text(f"Not shown: {note}") for note in view.notes]
    return Group(*parts)


def _families(rows: Sequence[ModelRow]) -> list[list[ModelRow]]:
    """Originals, each followed by what was compressed from it."""
    names = {row.model for row in rows}
    heads = [row for row in rows if row.base is None or row.base not in names]
    return [[head, *(row for row in rows if row.base == head.model)] for head in heads]


def _family(view: View, family: Sequence[ModelRow]) -> Table:
    ratios = {r.compressed: r for r in view.ratios}
    table = Table(title=f"Last {view.window_s:.0f} s", title_justify="left")
    table.add_column("")
    for row in family:
        table.add_column(row.model if row.ready else f"{row.model} (not ready)", justify="right")
        if row.model in ratios:
            table.add_column("ratio", justify="right")
    datasets = sorted({name for row in family for name in row.accuracy})
    for label, cell, ratio in (*_rows(), *(_accuracy_row(dataset) for dataset in datasets)):
        table.add_row(label, *_cells(family, ratios, cell, ratio))
    return table


def _rows() -> Sequence[tuple[str, _Cell, _Ratio]]:
    return (
        ("requests/s", lambda m: _number(m.requests_per_s, "{:.2f}"), lambda r: r.requests_per_s),
        ("errors", lambda m: _number(m.error_share, "{:.1%}"), lambda _: None),
        ("latency, p50", lambda m: _seconds(m.p50_s), lambda r: r.p50_s),
        ("latency, p95", lambda m: _seconds(m.p95_s), lambda r: r.p95_s),
        (
            "first token, p50 (streams)",
            lambda m: _seconds(m.first_token_p50_s),
            lambda r: r.first_token_p50_s,
        ),
        ("tokens/s", lambda m: _number(m.tokens_per_s, "{:.1f}"), lambda r: r.tokens_per_s),
        ("in flight / waiting", lambda m: f"{m.in_flight} / {m.waiting}", lambda _: None),
    )


def _accuracy_row(dataset: str) -> tuple[str, _Cell, _Ratio]:
    return (
        f"accuracy, {dataset}",
        lambda m: _interval(m.accuracy.get(dataset)),
        lambda r: r.accuracy.get(dataset),
    )


def _cells(
    family: Sequence[ModelRow], ratios: Mapping[str, Ratios], cell: _Cell, ratio: _Ratio
) -> list[str]:
    found = []
    for row in family:
        found.append(cell(row))
        if row.model in ratios:
            shown = ratio(ratios[row.model])
            found.append("" if shown is None else f"{shown:.2f}")
    return found


def _aliases(rows: Sequence[AliasRow]) -> Table:
    table = Table("alias", "answered by", "beside", "agreement", "canary", title_justify="left")
    for row in rows:
        targets = ", ".join(f"{model} {share:.0%}" for model, share in row.targets.items())
        beside = f"{row.kind} {row.candidate}" if row.candidate else _MISSING
        if row.kind == "canary":
            beside += f", {row.percent:g} %, step {row.step} of {row.steps}"
        agreement = f"{_interval(row.agreement)} (n={row.pairs})" if row.agreement else _MISSING
        table.add_row(row.alias, targets, beside, agreement, row.next or row.last or _MISSING)
    return table


def _jobs(rows: Sequence[JobRow]) -> Table:
    table = Table("job", "makes", "status", "stage", "done", "left", title_justify="left")
    for row in rows:
        left = _MISSING if row.seconds_left is None else _duration(row.seconds_left)
        done = f"{row.percent:.0f} %"
        table.add_row(row.id, row.name, row.status, row.stage or _MISSING, done, left)
    return table


def _number(value: float | None, pattern: str) -> str:
    return _MISSING if value is None else pattern.format(value)


def _seconds(value: float | None) -> str:
    if value is None:
        return _MISSING
    return f"{1000 * value:.1f} ms" if value < 1 else f"{value:.2f} s"


def _interval(found: Accuracy | None) -> str:
    return _MISSING if found is None else f"{found.value:.3f} [{found.low:.3f}, {found.high:.3f}]"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}"
