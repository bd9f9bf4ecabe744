"""deploy/kubernetes/components/tracing: who makes spans knows the collector and reaches it."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from service.settings import Settings
from service.telemetry.tracing import traces_endpoint
from service.workers.vllm_command import Machine, worker_command, worker_environment
from tests.integration.test_kubernetes import KUBERNETES, OVERLAYS, of_kind, overlay, pods
from tests.integration.test_kubernetes_models import configured, copied
from tests.support.kubernetes import faults
from tests.support.kustomize import Manifest, build
from tests.support.servers import ROOT
from tests.unit.test_routing import entry

OBSERVABILITY = (ROOT / "docs" / "observability.md").read_text()
GRAFANA = "components:\n  - ../../../grafana\n"
TRACED = GRAFANA + "  - ../../components/tracing\n"
NAME = "OTEL_EXPORTER_OTLP_ENDPOINT"
MACHINE = Machine(cores=8, cpu_flags=frozenset(), has_gpu=True)


@pytest.fixture(params=OVERLAYS)
def traced(request: pytest.FixtureRequest, tmp_path: Path) -> list[Manifest]:
    """An overlay with the line that the page shows."""
    return build(copied(request.param, tmp_path, {GRAFANA: TRACED}))


def container(objects: list[Manifest], name: str) -> dict[str, Any]:
    (found,) = pods(objects)[name]["containers"]
    return dict(found)


def test_the_page_shows_the_line_that_turns_it_on() -> None:
    assert TRACED in OBSERVABILITY


def test_an_overlay_with_it_is_valid(traced: list[Manifest]) -> None:
    assert [fault for found in traced for fault in faults(found)] == []
    assert all(
        o["metadata"].get("namespace") == "infoprune" for o in traced if o["kind"] != "Namespace"
    )


def test_gateway_and_runner_have_the_variable_and_trace(
    traced: list[Manifest], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("gateway", "runner"):
        assert {"configMapRef": {"name": "infoprune"}} in container(traced, name)["envFrom"]
    for variable, value in configured(traced).items():
        monkeypatch.setenv(variable, value)
    assert traces_endpoint(Settings()) == f"{configured(traced)[NAME]}/v1/traces"


def test_vllm_gets_what_a_local_worker_gets(traced: list[Manifest]) -> None:
    worker = container(traced, "worker-shapes-llava")
    given = {e["name"]: e.get("value", e.get("valueFrom")) for e in worker["env"]}
    assert given[NAME] == {"configMapKeyRef": {"name": "infoprune", "key": NAME}}
    collector = configured(traced)[NAME]
    local = worker_command(entry("a"), 8000, Settings(otlp_endpoint=collector), MACHINE)
    option = "--otlp-traces-endpoint"
    (argument,) = [arg for arg in worker["args"] if arg.startswith(option)]
    expected = f"{option}={local[local.index(option) + 1]}"
    assert argument.replace(f"$({NAME})", collector) == expected
    theirs = {k: v for k, v in worker_environment({}, MACHINE).items() if k.startswith("OTEL_")}
    assert len(theirs) == 2
    assert theirs.items() <= given.items()


def test_who_makes_spans_reaches_the_collector_and_nobody_else_does(traced: list[Manifest]) -> None:
    (policy,) = [
        p["spec"] for p in of_kind(traced, "NetworkPolicy") if p["metadata"]["name"] == "tracing"
    ]
    assert policy["policyTypes"] == ["Egress"]
    (selected,) = policy["podSelector"]["matchExpressions"]
    assert set(selected["values"]) == {"gateway", "runner", "worker"}
    address = urlsplit(configured(traced)[NAME])
    (rule,) = policy["egress"]
    (peer,) = rule["to"]
    namespace = peer["namespaceSelector"]["matchLabels"]["kubernetes.io/metadata.name"]
    assert str(address.hostname).split(".")[1:] == [namespace, "svc"]
    assert rule["ports"] == [{"protocol": "TCP", "port": address.port}]


@pytest.mark.parametrize("name", OVERLAYS)
def test_without_it_nothing_is_traced(name: str) -> None:
    assert NAME not in configured(overlay(name))
    assert "otlp" not in str(overlay(name)).lower()
    assert (KUBERNETES / "components" / "tracing").is_dir()
