"""What docs/deployment.md says to type for Kubernetes: it is there, and in an order that works."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml

from tests.integration.test_kubernetes import FILES, KUBERNETES, OVERLAYS, of_kind, pods
from tests.integration.test_kubernetes_models import DEPLOYMENT
from tests.support.servers import ROOT

COMMANDS = DEPLOYMENT.partition("\n## Kubernetes\n")[2].partition("\n## ")[0]
OBJECTS = [manifest for _, manifest in FILES]


def overlay_images(name: str) -> dict[str, dict[str, str]]:
    """An overlay's block `images`, by the name that the manifests use."""
    path = KUBERNETES / "overlays" / name / "kustomization.yaml"
    return {image["name"]: image for image in yaml.safe_load(path.read_text())["images"]}


def originals(pod: dict[str, Any]) -> list[dict[str, Any]]:
    """How a pod's container mounts the volume of the originals."""
    claims = {v["name"]: v.get("persistentVolumeClaim", {}) for v in pod["volumes"]}
    return [
        mount
        for mount in pod["containers"][0]["volumeMounts"]
        if claims.get(mount["name"], {}).get("claimName") == "infoprune-originals"
    ]


def test_every_path_on_the_page_is_there() -> None:
    paths = set(re.findall(r"\bdeploy/kubernetes/[\w./-]+\w", COMMANDS))
    assert {"deploy/kubernetes/upload.yaml", "deploy/kubernetes/overlays/cpu"} <= paths
    assert [path for path in paths if not (ROOT / path).exists()] == []


def test_the_page_renames_and_pushes_every_image_that_an_overlay_names() -> None:
    renamed = dict(re.findall(r"(infoprune/\w+)=\$REGISTRY/([\w-]+):\$TAG", COMMANDS))
    ours = overlay_images("cpu")
    assert renamed == {n: i["newName"].removeprefix("infoprune/") for n, i in ours.items()}
    (pushed,) = re.findall(r"for image in (.+); do", COMMANDS)
    assert set(pushed.split()) == set(renamed.values())


@pytest.mark.parametrize("name", OVERLAYS)
def test_an_overlays_images_are_those_that_compose_builds(name: str) -> None:
    services = yaml.safe_load((ROOT / "deploy" / "compose.yaml").read_text())["services"]
    built = {
        spec["image"].partition(":")[0]
        for spec in services.values()
        if "build" in spec and name in spec.get("profiles", [name])
    }
    assert {image["newName"] for image in overlay_images(name).values()} == built
    used = {p["containers"][0]["image"] for p in pods(OBJECTS).values()}
    assert {image for image in used if image.startswith("infoprune/")} == set(overlay_images(name))


def test_one_pod_alone_writes_originals_and_as_who_reads_them() -> None:
    ours = pods(OBJECTS)
    mounting = {name for name, pod in ours.items() if originals(pod)}
    assert mounting == {"register", "runner", "upload", "worker"}
    writers = [n for n, pod in ours.items() if any("readOnly" not in m for m in originals(pod))]
    assert writers == ["upload"]
    (mount,) = originals(ours["upload"])
    (there,) = re.findall(r" cp models/shapes-llava upload:(\S+)", COMMANDS)
    assert mount["mountPath"] == there
    users = {pod["securityContext"]["runAsUser"] for pod in ours.values() if originals(pod)}
    assert len(users) == 1


def test_what_uploads_is_the_stores_image_which_needs_no_registry_of_yours() -> None:
    ours = pods(OBJECTS)
    images = [ours[name]["containers"][0]["image"] for name in ("upload", "store")]
    assert images[0] == images[1]
    (pod,) = of_kind(OBJECTS, "Pod")
    assert pod["metadata"]["namespace"] == "infoprune"


def test_the_order_is_images_volumes_original_secret_overlay_key_and_way_in() -> None:
    steps = [
        "make images", "docker push", "kustomize edit set image", "base/namespace.yaml",
        "base/storage.yaml", "kubernetes/upload.yaml", "wait --for=condition=Ready", " cp models/",
        "delete pod upload", "secret generic infoprune-redis", "kubectl apply -k deploy",
        "rollout status deploy/gateway", "keys create admin", "secret generic infoprune-evaluations",
        "port-forward service/gateway", "curl localhost:8080",
    ]  # fmt: skip
    places = [COMMANDS.find(step) for step in steps]
    assert -1 not in places
    assert places == sorted(places)
