"""A real Prometheus with this project's own configuration, and Grafana's part: variables in queries."""

from __future__ import annotations

import json
import math
import re
import shutil
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from service.workers.manager import free_port
from service.workers.process import GuardedProcess
from tests.support.servers import ROOT, answers, wait_until

CONFIGURATION = ROOT / "deploy" / "prometheus"
DASHBOARDS = ROOT / "deploy" / "grafana" / "dashboards"


def program(name: str) -> str:
    """The path of `prometheus` or `promtool`; the test is skipped where it is not installed."""
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed; `apt-get install prometheus` brings it.")
    return found


@dataclass(frozen=True)
class PanelQuery:
    """One query of a dashboard's panel."""

    dashboard: str
    panel: str
    ref: str
    expr: str

    def __str__(self) -> str:
        return f"{self.dashboard}-{self.panel}-{self.ref}"


def panel_queries() -> list[PanelQuery]:
    """Every query of every generated dashboard."""
    return [
        PanelQuery(path.stem, panel["title"], target["refId"], target["expr"])
        for path in sorted(DASHBOARDS.glob("*.json"))
        for panel in json.loads(path.read_text())["panels"]
        for target in panel.get("targets", [])
    ]


def variable_queries() -> list[PanelQuery]:
    """Every dashboard's choices that are asked of Prometheus: `label_values(SERIES, LABEL)`."""
    return [
        PanelQuery(path.stem, "variable", each["name"], each["query"]["query"])
        for path in sorted(DASHBOARDS.glob("*.json"))
        for each in json.loads(path.read_text())["templating"]["list"]
        if each["type"] == "query"
    ]


def with_variables(expr: str, variables: Mapping[str, str]) -> str:
    """A query as Grafana sends it; a variable of which all values are chosen is `.+`."""
    text = re.sub(r"\$(?:\{(\w+)\}|(\w+))", lambda found: variables[found[1] or found[2]], expr)
    assert "$" not in text
    return text


class Prometheus:
    """Asks one."""

    def __init__(self, url: str) -> None:
        self.url = url

    def finite(self, expr: str, at: float | None = None) -> list[float]:
        """The finite values of a query's answer, now or at a time (Unix, seconds)."""
        values = [float(sample["value"][1]) for sample in self.ask(expr, at)]
        return [value for value in values if math.isfinite(value)]

    def label_values(self, query: str) -> set[str]:
        """What Grafana offers for a variable's `label_values(SERIES, LABEL)`."""
        found = re.fullmatch(r"label_values\((.+), (\w+)\)", query)
        assert found is not None, query
        series, label = found.groups()
        return {each["metric"][label] for each in self.ask(series) if label in each["metric"]}

    def ask(self, expr: str, at: float | None = None) -> list[dict[str, Any]]:
        """The samples of an instant vector."""
        asked = {"query": expr} | ({} if at is None else {"time": f"{at}"})
        url = f"{self.url}/api/v1/query?{urllib.parse.urlencode(asked)}"
        with urllib.request.urlopen(url, timeout=30) as response:
            content = json.loads(response.read())
        assert content["status"] == "success", content
        return list(content["data"]["result"])

    def alerts(self) -> list[dict[str, Any]]:
        """Every alert rule, as Prometheus has loaded it."""
        with urllib.request.urlopen(f"{self.url}/api/v1/rules?type=alert", timeout=30) as response:
            groups = json.loads(response.read())["data"]["groups"]
        return [rule for group in groups for rule in group["rules"]]


@contextmanager
def prometheus(directory: Path, gateway: str) -> Iterator[Prometheus]:
    """One that scrapes a gateway (`host:port`) and its workers every second, until the block ends."""
    path, port = program("prometheus"), free_port()
    configuration = directory / "prometheus.yml"
    configuration.write_text(yaml.safe_dump(_quick(gateway)))
    command = [
        path, f"--config.file={configuration}", f"--storage.tsdb.path={directory / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}", "--log.level=warn",
    ]  # fmt: skip
    process = GuardedProcess(command, env={}, log=directory / "prometheus.log")
    try:
        wait_until(lambda: answers(port, "/-/ready"))
        yield Prometheus(f"http://127.0.0.1:{port}")
    finally:
        process.stop()


def _quick(gateway: str) -> dict[str, Any]:
    """deploy/prometheus/prometheus.yml with another gateway and shorter intervals."""
    text = (CONFIGURATION / "prometheus.yml").read_text()
    found: dict[str, Any] = yaml.safe_load(
        text.replace("gateway:8080", gateway).replace("15s", "1s")
    )
    found["rule_files"] = [str(CONFIGURATION / name) for name in found["rule_files"]]
    return found


def last_scrape(server: Prometheus) -> float:
    """When the gateway was last scraped with success (Unix, seconds)."""
    up = 'timestamp(up{job="infoprune-gateway"} == 1)'
    (found,) = server.finite(f"max_over_time({up}[30m:1s])", at=time.time())
    return found
