"""A view as tables for a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from service.top.models import ModelRow, Ratios
from service.top.rows import MISSING, Row, groups_of, interval
from service.top.view import AliasRow, JobRow, View


def fitting(view: View, console: Console) -> RenderableType:
    """Everything where the terminal is as high as that; else the rows that matter most."""
    everything = render(view)
    fits = len(console.render_lines(everything, pad=False)) <= console.height
    return everything if fits else render(view, brief=True)


def render(view: View, *, brief: bool = False) -> RenderableType:
    """One table below the other; `brief` leaves out rows that can be done without."""
    parts: list[RenderableType] = [
        _family(view, family, brief=brief) for family in _families(view.models)
    ]
    if not view.models:
        parts.append(Text("No models."))
    elif not any(row.requests_per_s for row in view.models):
        parts.append(Text(f"No request ended in these {view.window_s:.0f} s."))
    if view.aliases:
        parts.append(_aliases(view.aliases))
    if view.jobs:
        parts.append(_jobs(view.jobs))
    parts += [Text(f"Not shown: {note}") for note in view.notes]
    if brief:
        parts.append(Text("More rows on a higher terminal, and by --once."))
    return Group(*parts)


def _families(rows: Sequence[ModelRow]) -> list[list[ModelRow]]:
    """Originals, each followed by what was compressed from it."""
    names = {row.model for row in rows}
    heads = [row for row in rows if row.base is None or row.base not in names]
    return [[head, *(row for row in rows if row.base == head.model)] for head in heads]


def _family(view: View, family: Sequence[ModelRow], *, brief: bool) -> Table:
    ratios = {r.compressed: r for r in view.ratios}
    table = Table(title=f"Last {view.window_s:.0f} s", title_justify="left")
    table.add_column("")
    for row in family:
        table.add_column(row.model if row.ready else f"{row.model} (not ready)", justify="right")
        if row.model in ratios:
            table.add_column("ratio", justify="right")
    for rows in groups_of(family, brief=brief):
        for each in rows:
            table.add_row(each.label, *_cells(family, ratios, each))
        if not brief:
            table.add_section()
    return table


def _cells(family: Sequence[ModelRow], ratios: Mapping[str, Ratios], row: Row) -> list[str]:
    found = []
    for model in family:
        found.append(row.cell(model))
        if model.model in ratios:
            shown = row.ratio(ratios[model.model])
            found.append("" if shown is None else f"{shown:.2f}")
    return found


def _aliases(rows: Sequence[AliasRow]) -> Table:
    table = Table("alias", "answered by", "beside", "agreement", "canary", title_justify="left")
    for row in rows:
        targets = ", ".join(f"{model} {share:.0%}" for model, share in row.targets.items())
        beside = f"{row.kind} {row.candidate}" if row.candidate else MISSING
        if row.kind == "canary":
            beside += f", {row.percent:g} %, step {row.step} of {row.steps}"
        agreement = f"{interval(row.agreement)} (n={row.pairs})" if row.agreement else MISSING
        table.add_row(row.alias, targets, beside, agreement, row.next or row.last or MISSING)
    return table


def _jobs(rows: Sequence[JobRow]) -> Table:
    table = Table("job", "makes", "status", "stage", "done", "left", title_justify="left")
    for row in rows:
        left = MISSING if row.seconds_left is None else _duration(row.seconds_left)
        done = f"{row.percent:.0f} %"
        table.add_row(row.id, row.name, row.status, row.stage or MISSING, done, left)
    return table


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}"
