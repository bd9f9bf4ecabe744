"""Prometheus' rule files as one object for the Prometheus operator.

python -m deploy.prometheus_rule | kubectl apply -n infoprune -f -
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:
    from collections.abc import Iterable

RULES = Path(__file__).parent / "prometheus"
FILES = ("rules.yml", "alerts.yml")


def prometheus_rule(texts: Iterable[str]) -> dict[str, Any]:
    """The `PrometheusRule` with the groups of all files. Pure."""
    groups = [group for text in texts for group in yaml.safe_load(text)["groups"]]
    labels = {"app.kubernetes.io/part-of": "infoprune"}
    return {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {"name": "infoprune", "labels": labels},
        "spec": {"groups": groups},
    }


def main() -> None:
    """Print it."""
    paths = [RULES / name for name in FILES if (RULES / name).exists()]
    yaml.safe_dump(prometheus_rule(p.read_text() for p in paths), sys.stdout, sort_keys=False)


if __name__ == "__main__":
    main()
