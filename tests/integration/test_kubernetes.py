"""deploy/kubernetes/: valid against the API's schemas, restricted, and consistent with the code."""

from __future__ import annotations

import copy
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from deploy.prometheus_rule import RULES, prometheus_rule
from tests.support.kubernetes import faults, objects_in
from tests.support.kustomize import Manifest, build

KUBERNETES = Path(__file__).resolve().parents[2] / "deploy" / "kubernetes"
OVERLAYS = ("cpu", "gpu")
FILES = [(f"{p.relative_to(KUBERNETES)}:{o['kind']}", o) for p, o in objects_in(KUBERNETES)]


@cache
def overlay(name: str) -> list[Manifest]:
    return build(KUBERNETES / "overlays" / name)


def of_kind(objects: list[Manifest], *kinds: str) -> list[Manifest]:
    return [found for found in objects if found["kind"] in kinds]


def pods(objects: list[Manifest]) -> dict[str, dict[str, Any]]:
    """The pods' specs by the name of what makes them."""
    makers = of_kind(objects, "Deployment", "StatefulSet", "Job")
    found = {maker["metadata"]["name"]: maker["spec"]["template"]["spec"] for maker in makers}
    return found | {pod["metadata"]["name"]: pod["spec"] for pod in of_kind(objects, "Pod")}


@pytest.mark.parametrize(("name", "manifest"), FILES, ids=[name for name, _ in FILES])
def test_every_object_is_valid(name: str, manifest: Manifest) -> None:
    assert faults(manifest) == [], name


@pytest.mark.parametrize("name", OVERLAYS)
def test_every_object_of_an_overlay_is_valid_and_there_is_one_of_its_name(name: str) -> None:
    objects = overlay(name)
    assert {f"{o['kind']} {o['metadata']['name']}": faults(o) for o in objects if faults(o)} == {}
    identities = [(o["kind"], o["metadata"]["name"]) for o in objects]
    assert len(identities) == len(set(identities))
    assert all(
        o["metadata"].get("namespace") == "infoprune" for o in objects if o["kind"] != "Namespace"
    )


@pytest.mark.parametrize("kind", ["Deployment", "ScaledObject", "ServiceMonitor", "NetworkPolicy"])
def test_an_unknown_field_is_refused(kind: str) -> None:
    wrong = copy.deepcopy(next(o for _, o in FILES if o["kind"] == kind))
    wrong["spec"]["replicsa"] = 1
    assert faults(wrong)


@pytest.mark.parametrize(("name", "manifest"), FILES, ids=[name for name, _ in FILES])
def test_pods_keep_to_the_restricted_standard_and_have_limits(
    name: str, manifest: Manifest
) -> None:
    for pod in pods([manifest]).values():
        security = pod["securityContext"]
        assert security["runAsNonRoot"] is True
        assert security["runAsUser"] > 0
        assert security["seccompProfile"] == {"type": "RuntimeDefault"}
        assert pod["automountServiceAccountToken"] is False
        assert not {"hostNetwork", "hostPID", "hostIPC"} & set(pod)
        kinds = {"persistentVolumeClaim", "emptyDir", "secret", "projected", "configMap"}
        assert all(set(volume) - {"name"} <= kinds for volume in pod["volumes"])
        for container in pod["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
            assert {"cpu", "memory"} <= set(container["resources"]["limits"])
            assert {"cpu", "memory"} <= set(container["resources"]["requests"])
            if "ports" in container:
                probes = {"startupProbe", "readinessProbe", "livenessProbe"}
                assert probes <= set(container), name


def test_no_secret_is_in_the_files() -> None:
    assert of_kind([o for _, o in FILES], "Secret") == []


@pytest.mark.parametrize("name", OVERLAYS)
def test_nothing_is_reached_but_by_a_policy_that_names_it(name: str) -> None:
    policies = {p["metadata"]["name"]: p["spec"] for p in of_kind(overlay(name), "NetworkPolicy")}
    assert policies["default-deny"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    worker = policies["worker"]
    assert worker["podSelector"] == {"matchLabels": {"app.kubernetes.io/name": "worker"}}
    assert "Egress" not in worker["policyTypes"], "the default holds: a worker calls nobody"
    used = {p["metadata"]["labels"]["app.kubernetes.io/name"] for p in _templates(overlay(name))}
    assert used == {"gateway", "evaluations", "runner", "register", "store", "worker"}


def _templates(objects: list[Manifest]) -> list[dict[str, Any]]:
    makers = of_kind(objects, "Deployment", "StatefulSet", "Job")
    return [maker["spec"]["template"] for maker in makers]


def test_only_the_gpu_overlay_asks_for_gpus() -> None:
    for name in OVERLAYS:
        asks = {
            maker for maker, pod in pods(overlay(name)).items()
            if "nvidia.com/gpu" in pod["containers"][0]["resources"]["limits"]
        }  # fmt: skip
        gpu = {"runner", "worker-shapes-llava"}
        assert asks == (gpu if name == "gpu" else set())
        images = {
            pod["containers"][0]["image"].partition(":")[0] for pod in pods(overlay(name)).values()
        }
        ours = {image for image in images if image.startswith("infoprune/")}
        assert ours == {"infoprune/gateway", f"infoprune/runner-{name}", f"infoprune/worker-{name}"}


def test_prometheus_rules_are_the_operators_too() -> None:
    example = """
groups:
  - name: example
    rules:
      - {alert: Down, expr: up == 0, for: 1m, labels: {severity: page}, annotations: {summary: Down.}}
      - {record: "a:b", expr: sum(up)}
"""
    files = [
        path.read_text() for path in sorted(RULES.glob("*.yml")) if "groups:" in path.read_text()
    ]
    made = prometheus_rule([example, *files])
    assert faults(made) == []
    assert len(made["spec"]["groups"]) > len(files)
    made["spec"]["groups"][0]["rules"][0]["fro"] = "1m"
    assert faults(made)
