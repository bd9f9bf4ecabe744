"""What `kustomize build` makes of the kustomizations in deploy/, without the program.

Only the features that those files use, and an error for any other, which would else be left out in
silence. tests/integration/test_kustomize.py compares with kubectl where there is one.
"""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

Manifest = dict[str, Any]
FILE = "kustomization.yaml"
NAMESPACED = frozenset({
    "ConfigMap", "Deployment", "HorizontalPodAutoscaler", "Job", "NetworkPolicy",
    "PersistentVolumeClaim", "PodDisruptionBudget", "PodMonitor", "ScaledObject", "Service",
    "ServiceMonitor", "StatefulSet", "TriggerAuthentication",
})  # fmt: skip
KINDS = NAMESPACED | {"Namespace"}
_POD_LABELS = (
    "spec/selector/matchLabels",
    "spec/template/metadata/labels",
    "spec/template/spec/topologySpreadConstraints/*/labelSelector/matchLabels",
)
RENAMED = {
    "Deployment": _POD_LABELS,
    "PodDisruptionBudget": ("spec/selector/matchLabels",),
    "ScaledObject": (),
    "Service": ("spec/selector",),
}
"""Kinds that may get a suffix, as no field that kustomize follows has their names; and where each has
labels that select pods."""


class KustomizeError(Exception):
    """It cannot be built, or not by this."""


def build(directory: Path) -> list[Manifest]:
    """The objects of a kustomization.

    Raises:
        KustomizeError: a file is wrong, or asks for what is not known here.
    """
    return _accumulated(directory.resolve(), "Kustomization", [])


def _accumulated(root: Path, kind: str, objects: list[Manifest]) -> list[Manifest]:
    """What there is after a kustomization; a component changes what was there before as well."""
    content = yaml.safe_load((root / FILE).read_text())
    if content.pop("kind") != kind:
        raise KustomizeError(f"{root} is no {kind}.")
    content.pop("apiVersion")
    found = [*objects]
    for entry in content.pop("resources", []):
        found += _resource(root, entry)
    for entry in content.pop("components", []):
        found = _accumulated((root / entry).resolve(), "Component", found)
    options = content.pop("generatorOptions", {})
    for generator in content.pop("configMapGenerator", []):
        found.append(_config_map(root, generator, options))
    # In kustomize's order, not the file's.
    for key, transform in TRANSFORMERS.items():
        if (value := content.pop(key, None)) is not None:
            transform(found, value)
    if content:
        raise KustomizeError(f"Not known in {root / FILE}: {', '.join(content)}.")
    _check(found)
    return found


def _resource(root: Path, entry: str) -> list[Manifest]:
    path = (root / entry).resolve()
    if path.is_dir():
        return _accumulated(path, "Kustomization", [])
    if not path.is_relative_to(root):
        raise KustomizeError(f"{path} is not below {root}.")
    if not path.is_file():
        raise KustomizeError(f"There is no {path}.")
    # By way of JSON, so that what a YAML alias names is a copy: a patch changes one of them.
    return [json.loads(json.dumps(o)) for o in yaml.safe_load_all(path.read_text()) if o]


def _check(objects: list[Manifest]) -> None:
    identities = [(o["kind"], o["metadata"]["name"]) for o in objects]
    if unknown := {kind for kind, _ in identities} - KINDS:
        raise KustomizeError(f"Not known: {', '.join(sorted(unknown))}.")
    if twice := {one for one in identities if identities.count(one) > 1}:
        raise KustomizeError(f"There more than once: {sorted(twice)}.")


def _only(value: Mapping[str, Any], *known: str) -> None:
    if unknown := set(value) - set(known):
        raise KustomizeError(f"Not known: {', '.join(sorted(unknown))}.")


# --- generators


def _config_map(root: Path, generator: Mapping[str, Any], options: Mapping[str, Any]) -> Manifest:
    _only(generator, "name", "files")
    _only(options, "disableNameSuffixHash", "labels")
    if options.get("disableNameSuffixHash") is not True:
        raise KustomizeError("Names with a hash are not known.")
    if named := [entry for entry in generator["files"] if "=" in entry]:
        raise KustomizeError(f"Keys that are not the file's name are not known: {named}.")
    metadata: dict[str, Any] = {"name": generator["name"]}
    if "labels" in options:
        metadata["labels"] = dict(options["labels"])
    data = {Path(entry).name: (root / entry).read_text() for entry in generator["files"]}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}


# --- transformers: each changes the objects


def _patch(objects: list[Manifest], patches: list[dict[str, Any]]) -> None:
    for patch in patches:
        _only(patch, "target", "patch")
        target = patch["target"]
        _only(target, "kind", "name")
        name = re.compile(target.get("name", ".*"))
        hit = [
            found
            for found in objects
            if found["kind"] == target["kind"] and name.fullmatch(found["metadata"]["name"])
        ]
        # kustomize lets that pass; here it is a mistake.
        if not hit:
            raise KustomizeError(f"No object is {target}.")
        operations = yaml.safe_load(patch["patch"])
        if not isinstance(operations, list):
            raise KustomizeError("Only JSON patches are known.")
        for found in hit:
            for operation in operations:
                _operate(found, copy.deepcopy(operation))


def _operate(found: Manifest, operation: dict[str, Any]) -> None:
    """One operation of a JSON patch (RFC 6902)."""
    _only(operation, "op", "path", "value")
    *way, last = [
        part.replace("~1", "/").replace("~0", "~") for part in operation["path"].split("/")[1:]
    ]
    place: Any = found
    try:
        for part in way:
            place = place[int(part) if isinstance(place, list) else part]
    except (KeyError, IndexError) as error:
        raise KustomizeError(f"There is no {operation['path']}.") from error
    match operation["op"], place:
        case "add", list() if last == "-":
            place.append(operation["value"])
        case ("add", dict()):
            place[last] = operation["value"]
        case ("replace", dict()) if last in place:
            place[last] = operation["value"]
        case _:
            raise KustomizeError(f"Not known or not possible: {operation}.")


def _namespace(objects: list[Manifest], namespace: str) -> None:
    for found in objects:
        if found["kind"] in NAMESPACED:
            found["metadata"]["namespace"] = namespace
        elif found["metadata"]["name"] != namespace:
            raise KustomizeError(f"kustomize would rename {found['metadata']['name']}.")


def _suffix(objects: list[Manifest], suffix: str) -> None:
    for found in objects:
        if found["kind"] not in RENAMED:
            raise KustomizeError(f"What names a {found['kind']} would have to follow its name.")
        found["metadata"]["name"] += suffix


def _label(objects: list[Manifest], labels: list[dict[str, Any]]) -> None:
    for entry in labels:
        _only(entry, "pairs", "includeSelectors", "includeTemplates")
        everywhere = entry.get("includeSelectors", False)
        if entry.get("includeTemplates", False) is not everywhere:
            raise KustomizeError("Labels of selectors without templates, or the other way round.")
        for found in objects:
            found["metadata"].setdefault("labels", {}).update(entry["pairs"])
            for labelled in _selecting(found) if everywhere else ():
                labelled.update(entry["pairs"])


def _selecting(found: Manifest) -> Iterator[dict[str, str]]:
    """The labels of an object that select pods, and those of its pods."""
    if found["kind"] not in RENAMED:
        raise KustomizeError(f"Where a {found['kind']} selects pods is not known.")
    if "affinity" in found["spec"].get("template", {}).get("spec", {}):
        raise KustomizeError("Affinities are not known.")
    for path in RENAMED[found["kind"]]:
        yield from _at(found, path.split("/"))


def _at(place: Any, path: list[str]) -> Iterator[Any]:
    """What lies at a path, `*` being every item of a list; nothing where there is no such field."""
    if not path:
        yield place
    elif path[0] == "*":
        for item in place:
            yield from _at(item, path[1:])
    elif path[0] in place:
        yield from _at(place[path[0]], path[1:])


def _rename_images(objects: list[Manifest], images: list[dict[str, Any]]) -> None:
    for image in images:
        _only(image, "name", "newName", "newTag")
        if len(image) < 3:
            raise KustomizeError(f"Both a new name and a new tag are wanted: {image}.")
        for found in objects:
            pod = found.get("spec", {}).get("template", {}).get("spec", {})
            for container in [*pod.get("containers", []), *pod.get("initContainers", [])]:
                if container["image"].partition(":")[0] == image["name"]:
                    container["image"] = f"{image['newName']}:{image['newTag']}"


TRANSFORMERS: dict[str, Callable[[list[Manifest], Any], None]] = {
    "patches": _patch,
    "namespace": _namespace,
    "nameSuffix": _suffix,
    "labels": _label,
    "images": _rename_images,
}
