"""What is an error: one definition, whoever shows a share of errors."""

from __future__ import annotations

import re
from collections.abc import Callable

import promql_parser
import pytest
import yaml

from deploy.dashboards.queries import failed_share
from service.failures import is_answered, is_failed
from service.telemetry import Metrics
from service.top.models import model_rows
from service.top.scrape import Between, Scrape, read
from service.traffic import counts_of
from tests.support.prometheus import CONFIGURATION
from tests.support.registry import model

STATUSES = ("200", "400", "404", "408", "413", "422", "429", "499", "500", "502", "503", "504")
FAILED = {"429", "500", "502", "503", "504"}
DESCRIBED = {"id": "a", "variant": "original", "base": None, "ready": True}


def by_the_page(status: str) -> tuple[bool, bool]:
    metrics = Metrics()
    metrics.of(model("a")).count_rejection(int(status))
    counts = counts_of(metrics.registry.collect())["a"]
    return counts.failed == 1, counts.failed + counts.answered == 1


def by_top(status: str) -> tuple[bool, bool]:
    text = f'infoprune_requests_total{{model="a",variant="original",status="{status}"}} 1\n'
    (row,) = model_rows(Between(Scrape(0.0), read(text, 1.0)), [DESCRIBED])
    return row.error_share == 1.0, row.error_share is not None


def by_query(expr: str) -> Callable[[str], tuple[bool, bool]]:
    """Both sides of the fraction that a query is, by their matchers of the status."""
    patterns: list[str] = []

    def visit(node: object) -> bool:
        if isinstance(node, promql_parser.MatrixSelector):
            matchers = node.vector_selector.matchers.matchers
            (found,) = [m for m in matchers if m.name == "status"]
            assert found.op == promql_parser.MatchOp.Re
            patterns.append(found.value)
        return True

    promql_parser.walk(promql_parser.parse(expr), visit)
    failed, counted = min(patterns, key=len), max(patterns, key=len)
    assert set(patterns) == {failed, counted}

    def judged(status: str) -> tuple[bool, bool]:
        return bool(re.fullmatch(failed, status)), bool(re.fullmatch(counted, status))

    return judged


def recorded() -> str:
    """What the alert on errors is made of."""
    content = yaml.safe_load((CONFIGURATION / "rules.yml").read_text())
    rules = [rule for group in content["groups"] for rule in group["rules"]]
    (found,) = [r for r in rules if r["record"] == "infoprune:request_errors:ratio_rate5m"]
    return str(found["expr"])


@pytest.mark.parametrize("status", STATUSES)
def test_all_who_show_a_share_of_errors_count_the_same(status: str) -> None:
    expected = (status in FAILED, status in FAILED or status == "200")
    assert (is_failed(status), is_failed(status) or is_answered(status)) == expected
    assert by_the_page(status) == expected
    assert by_top(status) == expected
    assert by_query(failed_share('model="a"', "5m"))(status) == expected
    assert by_query(recorded())(status) == expected
