"""The generated dashboards: current, complete, and asking for metrics that exist."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.dashboards.files import GRAFANA, contents, write
from deploy.dashboards.queries import failed_share, quantile
from service.telemetry.catalogue import JOB_DURATION, STAGE_DURATION
from tests.support.prometheus import CONFIGURATION, DASHBOARDS, panel_queries, with_variables
from tests.support.promql import asked_for, of_cadvisor, of_vllm, ours, ranged_over

DASHBOARD_FILES = sorted(DASHBOARDS.glob("*.json"))
ANY = {
    "original": "a", "compressed": "b", "alias": ".+", "model": ".+",
    "__range": "1h", "__rate_interval": "1m",
}  # fmt: skip


def panels(path: Path) -> list[dict[str, Any]]:
    return [p for p in json.loads(path.read_text())["panels"] if p["type"] != "row"]


def test_the_files_are_what_the_code_makes() -> None:
    present = {
        str(path.relative_to(GRAFANA)): path.read_text()
        for path in GRAFANA.rglob("*")
        if path.is_file()
    }
    assert present == contents(), "run `make dashboards`"


def test_writing_removes_what_is_no_more_made_and_says_what_changed(tmp_path: Path) -> None:
    left = tmp_path / "dashboards" / "old.json"
    left.parent.mkdir()
    left.write_text("{}")
    changed = set(write(tmp_path))
    assert left in changed
    assert not left.exists()
    assert {str(path.relative_to(tmp_path)) for path in changed - {left}} == set(contents())
    assert write(tmp_path) == []


@pytest.mark.parametrize("query", panel_queries(), ids=str)
def test_a_query_is_promql_over_metrics_that_exist(query: Any) -> None:
    names = asked_for(with_variables(query.expr, ANY))
    assert names
    assert names <= ours() | of_vllm() | of_cadvisor()


@pytest.mark.parametrize("name", [JOB_DURATION.name, STAGE_DURATION.name])
def test_what_falls_as_records_expire_is_in_no_rate(name: str) -> None:
    expressions = [with_variables(query.expr, ANY) for query in panel_queries()]
    for file in ("rules.yml", "alerts.yml"):
        content = yaml.safe_load((CONFIGURATION / file).read_text())
        expressions += [rule["expr"] for group in content["groups"] for rule in group["rules"]]
    asked = [expr for expr in expressions if any(m.startswith(name) for m in asked_for(expr))]
    assert asked, "the dashboards show it"
    assert not any(m.startswith(name) for expr in asked for m in ranged_over(expr))
    assert ranged_over(f"rate({name}_count[5m]) / {name}_sum") == {f"{name}_count"}


def test_a_metric_that_does_not_exist_is_found_out() -> None:
    assert not asked_for("rate(infoprune_request_total[5m])") <= ours()
    assert asked_for("a / on (x) group_left () sum(rate(b[5m]))") == {"a", "b"}
    assert "vllm:kv_cache_usage" not in of_vllm()


@pytest.mark.parametrize("path", DASHBOARD_FILES, ids=lambda path: path.stem)
def test_every_panel_has_what_a_reader_needs(path: Path) -> None:
    found = panels(path)
    assert found
    for panel in found:
        defaults = panel["fieldConfig"]["defaults"]
        assert panel["title"], panel
        assert panel["description"].endswith("."), panel["title"]
        assert defaults["unit"], panel["title"]
        if panel["type"] == "timeseries":
            assert panel["options"]["legend"]["showLegend"], panel["title"]
            assert all(target["legendFormat"] for target in panel["targets"]), panel["title"]
        if panel["type"] == "stat":
            assert defaults["noValue"], panel["title"]
            assert defaults["thresholds"]["steps"], panel["title"]
    ids = [panel["id"] for panel in json.loads(path.read_text())["panels"]]
    assert len(set(ids)) == len(ids)


@pytest.mark.parametrize("path", DASHBOARD_FILES, ids=lambda path: path.stem)
def test_panels_do_not_overlap_and_stay_within_the_grid(path: Path) -> None:
    taken: set[tuple[int, int]] = set()
    for panel in json.loads(path.read_text())["panels"]:
        at = panel["gridPos"]
        cells = {(at["x"] + dx, at["y"] + dy) for dx in range(at["w"]) for dy in range(at["h"])}
        assert at["x"] + at["w"] <= 24
        assert not cells & taken, panel["title"]
        taken |= cells


@pytest.mark.parametrize("path", DASHBOARD_FILES, ids=lambda path: path.stem)
def test_the_datasource_is_chosen_on_the_dashboard(path: Path) -> None:
    dashboard = json.loads(path.read_text())
    variables = dashboard["templating"]["list"]
    assert variables[0]["type"] == "datasource"
    for part in (*panels(path), *variables[1:]):
        assert part["datasource"]["uid"] == "${datasource}"


def test_the_first_row_of_the_comparison_answers() -> None:
    first = panels(DASHBOARDS / "comparison.json")[:8]
    assert {panel["gridPos"]["y"] for panel in first} == {1}
    assert sum(panel["gridPos"]["w"] for panel in first) == 24
    assert [panel["title"] for panel in first] == [
        "Verdict", "Accuracy", "Agreement", "Latency, p50", "Latency, p95", "First token, p50",
        "Tokens/s of an answer", "Requests/s",
    ]  # fmt: skip


def test_a_rate_is_taken_over_the_interval_that_prometheus_scrapes_at() -> None:
    source = yaml.safe_load((GRAFANA / "provisioning/datasources/prometheus.yaml").read_text())
    scraped = yaml.safe_load((CONFIGURATION / "prometheus.yml").read_text())["global"]
    (only,) = source["datasources"]
    assert only["jsonData"]["timeInterval"] == scraped["scrape_interval"]


def test_queries_are_built_as_promql_wants_them() -> None:
    assert quantile(0.95, "h", 'model="a"', "5m", by="model") == (
        'histogram_quantile(0.95, sum by (model, le) (rate(h_bucket{model="a"}[5m])))'
    )
    assert asked_for(failed_share('model="a"', "5m")) == {"infoprune_requests_total"}


def test_variables_are_put_in_as_grafana_does() -> None:
    assert with_variables('a{b=~"$x"}[${y}]', {"x": ".+", "y": "5m"}) == 'a{b=~".+"}[5m]'
    with pytest.raises(KeyError):
        with_variables("$unknown", {})
