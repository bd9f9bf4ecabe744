"""Alert rules: each tested both ways, each with somewhere to read on. promtool runs in integration/."""

from __future__ import annotations

import re
from collections import defaultdict
from typing import Any

import pytest
import yaml

from tests.support.prometheus import CONFIGURATION
from tests.support.promql import asked_for, ours
from tests.support.servers import ROOT


def rules(name: str) -> list[dict[str, Any]]:
    content = yaml.safe_load((CONFIGURATION / name).read_text())
    return [rule for group in content["groups"] for rule in group["rules"]]


ALERTS, RECORDED = rules("alerts.yml"), rules("rules.yml")


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert["alert"])
def test_an_alert_says_what_is_wrong_and_where_to_read_on(alert: dict[str, Any]) -> None:
    assert alert["labels"]["severity"] in {"page", "ticket"}
    notes = alert["annotations"]
    assert set(notes) == {"summary", "description", "runbook"}, "no URL, so no `runbook_url`"
    file, _, anchor = notes["runbook"].partition("#")
    headings = re.findall(r"^#+ (.+)$", (ROOT / file).read_text(), flags=re.MULTILINE)
    assert anchor == alert["alert"].lower()
    assert alert["alert"] in headings


@pytest.mark.parametrize("rule", [*ALERTS, *RECORDED], ids=lambda r: r.get("alert") or r["record"])
def test_a_rule_asks_for_metrics_that_exist(rule: dict[str, Any]) -> None:
    recorded = {r["record"] for r in RECORDED}
    assert asked_for(rule["expr"]) <= ours() | recorded


def test_every_alert_is_tested_firing_and_quiet() -> None:
    outcomes = defaultdict(set)
    for path in (CONFIGURATION / "tests").glob("*.yml"):
        for test in yaml.safe_load(path.read_text())["tests"]:
            for case in test["alert_rule_test"]:
                outcomes[case["alertname"]].add(bool(case["exp_alerts"]))
    assert outcomes == {alert["alert"]: {True, False} for alert in ALERTS}
