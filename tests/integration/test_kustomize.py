"""tests/support/kustomize.py: the objects that the real program makes, or an error."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.integration.test_kubernetes import KUBERNETES, OVERLAYS
from tests.integration.test_kubernetes_models import ADDED, copied
from tests.integration.test_kubernetes_tracing import GRAFANA, TRACED
from tests.support.kustomize import FILE, KustomizeError, Manifest, build

PROGRAMS = (["kustomize", "build"], ["kubectl", "kustomize"])
INSTALLED = [program for program in PROGRAMS if shutil.which(program[0])]
SERVICE = {
    "apiVersion": "v1", "kind": "Service",
    "metadata": {"name": "a", "labels": {"x": "1"}}, "spec": {"selector": {"x": "1"}},
}  # fmt: skip


def by_name(objects: list[Manifest]) -> dict[tuple[str, str], Manifest]:
    return {(found["kind"], found["metadata"]["name"]): found for found in objects}


def kustomized(directory: Path) -> list[Manifest]:
    """What the program makes."""
    done = subprocess.run(
        [*INSTALLED[0], str(directory)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return [found for found in yaml.safe_load_all(done.stdout) if found]


@pytest.mark.skipif(not INSTALLED, reason="neither kustomize nor kubectl is installed")
@pytest.mark.parametrize("edits", [{}, ADDED | {GRAFANA: TRACED}], ids=["as it is", "all added"])
@pytest.mark.parametrize("name", OVERLAYS)
def test_an_overlay_is_what_the_real_program_makes(
    name: str, edits: dict[str, str], tmp_path: Path
) -> None:
    place = copied(name, tmp_path, edits)
    assert by_name(build(place)) == by_name(kustomized(place))


def test_every_kustomization_is_in_an_overlay_or_added_to_one(tmp_path: Path) -> None:
    """So that nothing that lies there is left without a check."""
    used: set[Path] = set()

    def visit(directory: Path) -> None:
        used.add(directory)
        content = yaml.safe_load((directory / FILE).read_text())
        for entry in [*content.get("resources", []), *content.get("components", [])]:
            if (directory / entry).is_dir():
                visit((directory / entry).resolve())

    for name in OVERLAYS:
        visit(copied(name, tmp_path / name, ADDED | {GRAFANA: TRACED}).resolve())
    there = {path.parent.relative_to(KUBERNETES) for path in KUBERNETES.rglob(FILE)}
    seen = {
        path.relative_to((tmp_path / name / "kubernetes").resolve())
        for name in OVERLAYS
        for path in used
        if path.is_relative_to((tmp_path / name / "kubernetes").resolve())
    }
    assert seen == there


# --- what it refuses


def kustomization(place: Path, *objects: Manifest, **content: Any) -> Path:
    head = {"apiVersion": "kustomize.config.k8s.io/v1beta1", "kind": "Kustomization"}
    whole = {**head, "resources": ["objects.yaml"], **content}
    place.mkdir(exist_ok=True)
    (place / "objects.yaml").write_text(yaml.safe_dump_all(objects or [SERVICE]))
    (place / FILE).write_text(yaml.safe_dump(whole))
    return place


def test_what_is_known_is_built(tmp_path: Path) -> None:
    (made,) = build(kustomization(tmp_path, namespace="n", nameSuffix="-1"))
    assert made["metadata"] == {"name": "a-1", "namespace": "n", "labels": {"x": "1"}}


def patch(*operations: dict[str, Any], **target: str) -> list[dict[str, Any]]:
    return [{"target": {"kind": "Service", **target}, "patch": yaml.safe_dump([*operations])}]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"commonLabels": {"a": "b"}}, "commonLabels"),
        ({"kind": "Component"}, "no Kustomization"),
        ({"resources": ["absent.yaml"]}, "absent.yaml"),
        ({"resources": ["../outside.yaml"]}, "not below"),
        ({"resources": ["objects.yaml", "objects.yaml"]}, "more than once"),
        ({"configMapGenerator": [{"name": "a", "files": []}]}, "hash"),
        ({"configMapGenerator": [{"name": "a", "literals": []}]}, "literals"),
        ({"images": [{"name": "a", "digest": "sha256:0"}]}, "digest"),
        ({"images": [{"name": "a", "newTag": "1"}]}, "new name"),
        ({"labels": [{"pairs": {}, "fields": []}]}, "fields"),
        ({"labels": [{"pairs": {}, "includeSelectors": True}]}, "other way round"),
        ({"patches": patch(name="absent")}, "No object"),
        ({"patches": patch(labelSelector="x=1")}, "labelSelector"),
        ({"patches": patch({"op": "remove", "path": "/spec/selector"})}, "remove"),
        ({"patches": patch({"op": "replace", "path": "/spec/absent", "value": 1})}, "absent"),
        ({"patches": patch({"op": "add", "path": "/absent/a", "value": 1})}, "no /absent"),
        ({"patches": [{"target": {"kind": "Service"}, "patch": "a: b"}]}, "JSON patches"),
        ({"patches": [{"path": "patch.yaml"}]}, "path"),
    ],
)
def test_what_is_not_known_is_an_error(
    content: dict[str, Any], message: str, tmp_path: Path
) -> None:
    (tmp_path / "outside.yaml").write_text(yaml.safe_dump(SERVICE))
    with pytest.raises(KustomizeError, match=message):
        build(kustomization(tmp_path / "inside", **content))


@pytest.mark.parametrize(
    ("kind", "content"),
    [
        ("Ingress", {}),
        ("ConfigMap", {"nameSuffix": "-1"}),
        ("Namespace", {"namespace": "another"}),
        ("Job", {"labels": [{"pairs": {}, "includeSelectors": True, "includeTemplates": True}]}),
    ],
)
def test_a_kind_that_would_need_more_is_an_error(
    kind: str, content: dict[str, Any], tmp_path: Path
) -> None:
    with pytest.raises(KustomizeError):
        build(kustomization(tmp_path, {**SERVICE, "kind": kind}, **content))


def test_a_patch_changes_one_of_two_fields_that_an_alias_makes_equal(tmp_path: Path) -> None:
    text = "kind: Service\nmetadata: {name: a}\nspec: {one: &x {y: 1}, two: *x}\n"
    place = kustomization(
        tmp_path, patches=patch({"op": "replace", "path": "/spec/one/y", "value": 2})
    )
    (place / "objects.yaml").write_text(text)
    assert build(place)[0]["spec"] == {"one": {"y": 2}, "two": {"y": 1}}
