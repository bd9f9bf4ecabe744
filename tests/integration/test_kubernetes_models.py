"""deploy/kubernetes/models/ and worker/: a model's workers, how many, and their dashboards."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml

from service.settings import Settings
from service.workers.vllm_command import Machine, worker_command
from tests.integration.test_kubernetes import (
    KUBERNETES,
    OVERLAYS,
    of_kind,
    overlay,
    pods,
)
from tests.integration.test_rules import promtool
from tests.support.kubernetes import faults
from tests.support.kustomize import FILE, Manifest, build
from tests.unit.test_routing import entry

DEPLOY = KUBERNETES.parent
DEPLOYMENT = (DEPLOY.parent / "docs" / "deployment.md").read_text()
RESOURCE = "  - ../../models/shapes-llava\n"
ORIGINAL = '          {"shapes-llava": ["dns+http://worker-shapes-llava:8000"]'
ADDED = {
    RESOURCE: RESOURCE + "  - ../../models/shapes-llava-flops0-5\n",
    ORIGINAL + "}\n": ORIGINAL
    + ',\n          "shapes-llava-flops0.5": ["dns+http://worker-shapes-llava-flops0-5:8000"]}\n',
}
"""What is written in an overlay for one model more, by what was there."""
MODELS = sorted(path.name for path in (KUBERNETES / "models").iterdir())
LARGEST_ANNOTATION = 256 * 1024


def copied(name: str, place: Path, edits: Mapping[str, str]) -> Path:
    """A copy of an overlay, with all that it names, in which each text is replaced by another."""
    for part in ("kubernetes", "grafana"):
        shutil.copytree(DEPLOY / part, place / part)
    file = place / "kubernetes" / "overlays" / name / FILE
    for before, after in edits.items():
        assert file.read_text().count(before) == 1
        file.write_text(file.read_text().replace(before, after))
    return file.parent


def configured(objects: list[Manifest]) -> dict[str, str]:
    """The variables of all our pods."""
    (found,) = [o for o in of_kind(objects, "ConfigMap") if o["metadata"]["name"] == "infoprune"]
    return dict(found["data"])


def served_models(objects: list[Manifest], patch: pytest.MonkeyPatch) -> set[str]:
    """The models of INFOPRUNE_WORKERS; each has pods, a name for them and what scales them."""
    with patch.context() as setting:
        for variable, value in configured(objects).items():
            setting.setenv(variable, value)
        workers = Settings().workers
    specs = {s["metadata"]["name"]: s["spec"] for s in of_kind(objects, "Service")}
    deployments = {d["metadata"]["name"]: d["spec"] for d in of_kind(objects, "Deployment")}
    scaled = {s["metadata"]["name"]: s["spec"] for s in of_kind(objects, "ScaledObject")}
    for model, urls in workers.items():
        (url,) = urls
        host = url.removeprefix("dns+http://").removesuffix(":8000")
        assert specs[host]["clusterIP"] == "None"
        labels = deployments[host]["template"]["metadata"]["labels"]
        assert specs[host]["selector"].items() <= labels.items()
        assert deployments[host]["selector"]["matchLabels"].items() <= labels.items()
        assert labels["infoprune.dev/model"] == model
        (container,) = deployments[host]["template"]["spec"]["containers"]
        environment = {e["name"]: e["value"] for e in container["env"]}
        assert environment["MODEL_NAME"] == model
        assert environment["MODEL_PATH"].rpartition("/")[2] == model
        assert scaled[host]["scaleTargetRef"]["name"] == host
        assert f'{{model="{model}"}}' in scaled[host]["triggers"][0]["metadata"]["query"]
    deployed = {name for name in deployments if name.startswith("worker-")}
    assert len(deployed) == len(workers), "no worker that the gateway does not look for"
    return set(workers)


@pytest.mark.parametrize("name", OVERLAYS)
def test_an_overlay_serves_the_original_alone(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model that no job has made yet would have pods that end again and again, and an alert."""
    assert served_models(overlay(name), monkeypatch) == {"shapes-llava"}


@pytest.mark.parametrize("name", OVERLAYS)
def test_a_compressed_model_is_added_by_the_two_edits_that_the_page_shows(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert all(after in DEPLOYMENT for after in ADDED.values())
    objects = build(copied(name, tmp_path, ADDED))
    assert [fault for found in objects for fault in faults(found)] == []
    assert served_models(objects, monkeypatch) == {"shapes-llava", "shapes-llava-flops0.5"}
    paths = pods(objects)["worker-shapes-llava-flops0-5"]["containers"][0]["env"]
    where = f"{configured(objects)['INFOPRUNE_RUN_DIR']}/models/shapes-llava-flops0.5"
    assert {"name": "MODEL_PATH", "value": where} in paths, "where jobs leave their models"


# --- how many workers


def scaling_query(model: str) -> str:
    """The query in a model's kustomization, without building it."""
    content = yaml.safe_load((KUBERNETES / "models" / model / "kustomization.yaml").read_text())
    (patch,) = [p["patch"] for p in content["patches"] if p["target"]["kind"] == "ScaledObject"]
    (query,) = [c["value"] for c in yaml.safe_load(patch) if c["path"].endswith("/query")]
    return str(query)


def waiting(in_engines: dict[str, int], in_gateways: dict[str, int], other: str) -> list[Any]:
    """Series of a model's requests that wait, by pod, and as many of another model's."""
    return [
        {"series": f'{metric}{{{label}="{model}", instance="{pod}"}}', "values": f"{count}x8"}
        for metric, label, found in (
            ("vllm:num_requests_waiting", "model_name", in_engines),
            ("infoprune_waiting_requests", "model", in_gateways),
        )
        for pod, count in found.items()
        for model in ("MODEL", other)
    ]


@pytest.mark.parametrize("directory", MODELS)
def test_workers_are_scaled_by_all_that_wait_in_engines_and_gateways(
    directory: str, tmp_path: Path
) -> None:
    query = scaling_query(directory)
    model = directory.replace("-flops0-5", "-flops0.5")
    cases: list[tuple[dict[str, int], dict[str, int], int]] = [
        ({}, {}, 0), ({"w1": 3, "w2": 2}, {}, 5), ({}, {"g1": 4, "g2": 7}, 11),
        ({"w1": 3, "w2": 2}, {"g1": 4, "g2": 7}, 16),
    ]  # fmt: skip
    tests = [
        {
            "interval": "15s",
            "input_series": waiting(in_engines, in_gateways, "another"),
            "promql_expr_test": [
                {
                    "expr": query,
                    "eval_time": "1m",
                    "exp_samples": [{"labels": "{}", "value": expected}],
                }
            ],
        }
        for in_engines, in_gateways, expected in cases
    ]
    text = yaml.safe_dump({"rule_files": [], "evaluation_interval": "15s", "tests": tests})
    (tmp_path / "query.yml").write_text(text.replace("MODEL", model))
    done = promtool("test", "rules", "query.yml", where=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr


# --- what a worker is


def test_a_pod_starts_the_engine_with_the_options_of_a_local_worker() -> None:
    """All but the precision, which is the checkpoint's on a GPU and an overlay's business on a CPU."""
    machine = Machine(cores=8, cpu_flags=frozenset(), has_gpu=True)
    local = worker_command(entry("a"), 8000, Settings(), machine)
    assert dict(pairwise(local))["--dtype"] == "auto"
    (worker,) = [
        o for o in yaml.safe_load_all((KUBERNETES / "worker" / "worker.yaml").read_text())
        if o["kind"] == "Deployment"
    ]  # fmt: skip
    args = worker["spec"]["template"]["spec"]["containers"][0]["args"]
    options = {word for word in local if word.startswith("--")}
    assert {arg.partition("=")[0] for arg in args} == options - {"--dtype"}
    assert "--enable-log-requests" in options


# --- dashboards


def test_every_dashboard_is_handed_to_grafana() -> None:
    listed = yaml.safe_load((DEPLOY / "grafana" / "kustomization.yaml").read_text())
    files = [file for made in listed["configMapGenerator"] for file in made["files"]]
    there = (DEPLOY / "grafana").glob("dashboards/*.json")
    assert sorted(files) == sorted(f"dashboards/{path.name}" for path in there)


@pytest.mark.parametrize("name", OVERLAYS)
def test_grafanas_sidecar_finds_the_dashboards_as_they_are(name: str) -> None:
    found: dict[str, str] = {}
    for made in of_kind(overlay(name), "ConfigMap"):
        if made["metadata"].get("labels", {}).get("grafana_dashboard") == "1":
            # `kubectl apply` keeps all of it in an annotation.
            assert len(json.dumps(made)) < LARGEST_ANNOTATION
            found |= made["data"]
    there = (DEPLOY / "grafana" / "dashboards").glob("*.json")
    assert found == {path.name: path.read_text() for path in there}
