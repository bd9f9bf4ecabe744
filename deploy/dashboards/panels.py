"""Panels in the house's style: description, unit, legend, and colours for the colour-blind too."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from grafana_foundation_sdk.builders import common, prometheus, stat, table, timeseries
from grafana_foundation_sdk.builders import dashboard as builders
from grafana_foundation_sdk.models import common as looks
from grafana_foundation_sdk.models import dashboard as models
from grafana_foundation_sdk.models import prometheus as formats

DATASOURCE = models.DataSourceRef(type_val="prometheus", uid="${datasource}")

# Okabe and Ito's palette, which people with any of the common colour blindnesses tell apart.
BLUE, ORANGE, GREEN, RED, GREY = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#999999"
SKY, PINK, YELLOW = "#56B4E9", "#CC79A7", "#F0E442"

Styled = TypeVar("Styled", stat.Panel, table.Panel, timeseries.Panel)
Steps = Sequence[tuple[float | None, str]]
"""(from this value on, the colour), ascending; the first value is None."""


@dataclass(frozen=True)
class Query:
    """One of a panel's queries."""

    expr: str
    legend: str = ""


@dataclass(frozen=True)
class Look:
    """How curves look."""

    colors: Mapping[str, str] = field(default_factory=dict)
    """By regular expressions over the series' names."""
    dashed: str | None = None
    """Which are dashed, so that not the colour alone tells them apart."""
    stacked: bool = False


SIDES = Look({"/^original/": BLUE, "/^compressed/": ORANGE}, dashed="/^original/")
STATUSES = Look({"/^2/": GREEN, "/^4/": ORANGE, "/^5/": RED}, stacked=True)
STATES = Look(
    {
        "/^(finished|ready|promoted|holds)$/": GREEN,
        "/^(running|trusted)$/": BLUE,
        "/^(queued|starting|undecided)$/": SKY,
        "/^(cancelled|stopped)$/": GREY,
        "/^backoff$/": ORANGE,
        "/^(failed|rolled_back|regressed)$/": RED,
    }
)
PLAIN, STACKED = Look(), Look(stacked=True)


def headline(
    title: str,
    description: str,
    expr: str,
    *,
    unit: str,
    decimals: int,
    steps: Steps,
    span: int = 3,
) -> stat.Panel:
    """One number, large, coloured by what it means; taken over all of the time shown."""
    panel = _styled(stat.Panel(), title, description, unit, span, 5)
    return (
        panel.with_target(_target(Query(expr), "A", instant=True))
        .decimals(decimals)
        .no_value("no data yet")
        .thresholds(_thresholds(steps))
        .color_scheme(builders.FieldColor().mode(models.FieldColorModeId.THRESHOLDS))
        .color_mode(looks.BigValueColorMode.BACKGROUND_SOLID)
        .graph_mode(looks.BigValueGraphMode.NONE)
        .text_mode(looks.BigValueTextMode.VALUE)
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
    )


def state(
    title: str,
    description: str,
    expr: str,
    words: Mapping[int, tuple[str, str]],
    *,
    span: int = 3,
) -> stat.Panel:
    """A state in a word; `words` gives the word and colour of each value."""
    shown = {
        str(value): models.ValueMappingResult(text=word, color=color, index=index)
        for index, (value, (word, color)) in enumerate(words.items())
    }
    steps = [(None, GREY)]
    panel = headline(title, description, expr, unit="none", decimals=0, steps=steps, span=span)
    return panel.mappings([models.ValueMap(options=shown)])


def lines(
    title: str,
    description: str,
    queries: Sequence[Query],
    *,
    unit: str,
    look: Look = PLAIN,
    span: int = 8,
    most: float | None = None,
    limit: float | None = None,
) -> timeseries.Panel:
    """Curves over time, from 0; `most` is the axis's end, `limit` is drawn as a line."""
    legend = common.VizLegendOptions().show_legend(True).calcs(["lastNotNull", "max"])
    legend = legend.display_mode(looks.LegendDisplayMode.TABLE)
    tooltip = common.VizTooltipOptions().mode(looks.TooltipDisplayMode.MULTI)
    panel = _styled(timeseries.Panel(), title, description, unit, span, 8)
    panel = (
        panel.legend(legend.placement(looks.LegendPlacement.BOTTOM))
        .tooltip(tooltip.sort(looks.SortOrder.DESCENDING))
        .line_width(2)
        .fill_opacity(25 if look.stacked else 0)
        .show_points(looks.VisibilityMode.AUTO)
        .min(0)
    )
    for number, query in enumerate(queries):
        panel = panel.with_target(_target(query, chr(ord("A") + number)))
    if look.stacked:
        mode = looks.StackingMode.NORMAL
        panel = panel.stacking(common.StackingConfig().mode(mode).group("A"))
    if most is not None:
        panel = panel.max(most)
    if limit is not None:
        style = common.GraphThresholdsStyleConfig().mode(looks.GraphThresholdsStyleMode.DASHED)
        steps = [(None, GREY), (limit, RED)]
        panel = panel.thresholds(_thresholds(steps)).thresholds_style(style)
    return _colored(panel, look)


def band(panel: timeseries.Panel, side: str) -> timeseries.Panel:
    """Fill between the curves `SIDE, low` and `SIDE, high`: an interval around `SIDE`."""
    thin = models.DynamicConfigValue("custom.lineWidth", 0)
    panel = panel.override_by_name(f"{side}, low", [thin])
    below = models.DynamicConfigValue("custom.fillBelowTo", f"{side}, low")
    opacity = models.DynamicConfigValue("custom.fillOpacity", 15)
    return panel.override_by_name(f"{side}, high", [thin, below, opacity])


def grid(
    title: str,
    description: str,
    columns: Mapping[str, str],
    *,
    key: str,
    unit: str,
    span: int = 12,
) -> table.Panel:
    """A table: a row for every value of the label `key`, a column for every query by its heading."""
    panel = _styled(table.Panel(), title, description, unit, span, 8)
    renamed = {key: key}
    for number, (heading, expr) in enumerate(columns.items()):
        ref = chr(ord("A") + number)
        renamed[f"Value #{ref}"] = heading
        panel = panel.with_target(_target(Query(expr), ref, instant=True, table=True))
    organised = {"excludeByName": {"Time": True}, "renameByName": renamed, "indexByName": {}}
    panel = panel.with_transformation(models.DataTransformerConfig("merge", options={}))
    panel = panel.with_transformation(models.DataTransformerConfig("organize", options=organised))
    return panel.decimals(3).no_value("not measured yet")


def _styled(
    panel: Styled, title: str, description: str, unit: str, span: int, height: int
) -> Styled:
    return (
        panel.title(title)
        .description(description)
        .datasource(DATASOURCE)
        .unit(unit)
        .span(span)
        .height(height)
    )


def _target(
    query: Query, ref: str, *, instant: bool = False, table: bool = False
) -> prometheus.Dataquery:
    made = prometheus.Dataquery().expr(query.expr).ref_id(ref).legend_format(query.legend)
    kind = formats.PromQueryFormat.TABLE if table else formats.PromQueryFormat.TIME_SERIES
    made = made.format(kind).editor_mode(formats.QueryEditorMode.CODE).datasource(DATASOURCE)
    return made.instant() if instant else made.range()


def _thresholds(steps: Steps) -> builders.ThresholdsConfig:
    made = [models.Threshold(value=value, color=color) for value, color in steps]
    return builders.ThresholdsConfig().mode(models.ThresholdsMode.ABSOLUTE).steps(made)


def _colored(panel: timeseries.Panel, look: Look) -> timeseries.Panel:
    mode = models.FieldColorModeId.PALETTE_CLASSIC_BY_NAME
    panel = panel.color_scheme(builders.FieldColor().mode(mode))
    for pattern, color in look.colors.items():
        fixed = {"mode": "fixed", "fixedColor": color}
        panel = panel.override_by_regexp(pattern, [models.DynamicConfigValue("color", fixed)])
    if look.dashed is not None:
        dash = {"fill": "dash", "dash": [8, 6]}
        style = models.DynamicConfigValue("custom.lineStyle", dash)
        panel = panel.override_by_regexp(look.dashed, [style])
    return panel
