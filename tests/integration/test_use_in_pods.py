"""What a model's workers use, on the dashboard: told by a worker manager, or by the kubelet."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.integration.test_rules import promtool
from tests.support.prometheus import panel_queries, with_variables

CHOSEN = {"original": "tiny", "compressed": "small", "__rate_interval": "1m"}
PANELS = {"Cores and graphics cards in use": "cores", "Memory": "host"}
GB = 10**9


def series(name: str, values: str, **labels: str) -> dict[str, str]:
    """A promtool series."""
    shown = ",".join(f'{label}="{value}"' for label, value in labels.items())
    return {"series": f"{name}{{{shown}}}", "values": values}


def pod(name: str, model: str, cores: int, gigabytes: int) -> list[dict[str, str]]:
    """What is scraped of a pod: its engine, and by cAdvisor its containers, each by two kubelets."""
    place = {"namespace": "infoprune", "pod": name}
    found = [series("vllm:num_requests_running", "0x20", engine="0", model_name=model, **place)]
    for container in ("vllm", "other", ""):  # the last one is the pod as a whole
        for kubelet in ("one", "two"):
            labels = {**place, "container": container, "instance": kubelet}
            counted = f"0+{15 * cores}x20"
            found.append(series("container_cpu_usage_seconds_total", counted, **labels))
            held = f"{gigabytes * GB}x20"
            found.append(series("container_memory_working_set_bytes", held, **labels))
    return found


def local(model: str, cores: int, gigabytes: int) -> list[dict[str, str]]:
    """What two gateways say of a worker that a manager measures."""
    found = []
    for gateway in ("a", "b"):
        labels = {"model": model, "worker": "w1", "instance": gateway}
        counted = f"0+{15 * cores}x20"
        found.append(series("infoprune_worker_cpu_seconds_total", counted, **labels))
        held = f"{gigabytes * GB}x20"
        found.append(series("infoprune_worker_resident_memory_bytes", held, **labels))
    return found


@pytest.mark.parametrize(
    "scraped",
    [
        [
            *pod("tiny-1", "tiny", 2, 3),
            *pod("tiny-2", "tiny", 1, 2),
            *pod("small-1", "small", 7, 7),
        ],
        local("tiny", 3, 5),
        # A manager in a pod: its own measure, and not the sum of both.
        [*local("tiny", 3, 5), *pod("tiny-1", "tiny", 4, 9)],
    ],
    ids=["kubelet", "manager", "both"],
)
def test_cores_and_memory_are_told_once(scraped: list[dict[str, str]], tmp_path: Path) -> None:
    asked = [q for q in panel_queries() if q.panel in PANELS and "$original" in q.expr]
    assert len(asked) == len(PANELS)
    checks: list[dict[str, Any]] = [
        {
            "expr": with_variables(query.expr, CHOSEN),
            "eval_time": "4m",
            "exp_samples": [
                {
                    "labels": f'{{on="{PANELS[query.panel]}"}}',
                    "value": 5 * GB if query.panel == "Memory" else 3,
                }
            ],
        }
        for query in asked
    ]
    test = {"interval": "15s", "input_series": scraped, "promql_expr_test": checks}
    content = {"rule_files": [], "evaluation_interval": "15s", "tests": [test]}
    (tmp_path / "use.yml").write_text(yaml.safe_dump(content))
    done = promtool("test", "rules", "use.yml", where=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
