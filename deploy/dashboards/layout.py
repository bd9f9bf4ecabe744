"""What the dashboards share: variables, links, and rows of panels."""

from __future__ import annotations

from collections.abc import Sequence

from grafana_foundation_sdk.builders import dashboard as builders
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.models import dashboard as models

from deploy.dashboards.panels import DATASOURCE

TAG = "infoprune"


def empty(
    uid: str, title: str, description: str, variables: Sequence[Builder[models.VariableModel]]
) -> builders.Dashboard:
    """A dashboard without panels; the data source can be chosen on it."""
    source = builders.DatasourceVariable("datasource").label("Data source").type("prometheus")
    links = builders.DashboardLink("InfoPrune").type(models.DashboardLinkType.DASHBOARDS)
    made = (
        builders.Dashboard(title)
        .uid(uid)
        .description(description)
        .tags([TAG])
        .time("now-1h", "now")
        .refresh("10s")
        .timezone("browser")
        .tooltip(models.DashboardCursorSync.CROSSHAIR)
        .link(links.tags([TAG]).as_dropdown(False).keep_time(True).include_vars(False))
        .with_variable(source)
    )
    for variable in variables:
        made = made.with_variable(variable)
    return made


def choice(
    name: str, label: str, description: str, query: str, *, several: bool = False
) -> builders.QueryVariable:
    """A variable whose values come from a query; with `several` all of them, until some are chosen."""
    made = (
        builders.QueryVariable(name)
        .label(label)
        .description(description)
        .query({"query": query, "refId": name})
        .datasource(DATASOURCE)
        .refresh(models.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(models.VariableSort.ALPHABETICAL_ASC)
    )
    if not several:
        return made
    every = models.VariableOption(selected=True, text="All", value="$__all")
    return made.multi(True).include_all(True).all_value(".+").current(every)


def row(
    made: builders.Dashboard, title: str, panels: Sequence[Builder[models.Panel]]
) -> builders.Dashboard:
    """Add a row with a heading."""
    made = made.with_row(builders.Row(title))
    for panel in panels:
        made = made.with_panel(panel)
    return made
