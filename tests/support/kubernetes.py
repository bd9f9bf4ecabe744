"""Kubernetes manifests for tests: what files hold, checked strictly by the API's schemas."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import kubernetes_validate
import yaml
from jsonschema import Draft202012Validator

from tests.support.kustomize import FILE, Manifest

SCHEMAS = Path(__file__).with_name("schemas")
VERSION = "1.34"


def objects_in(directory: Path) -> Iterator[tuple[Path, Manifest]]:
    """Every object that a folder's files hold, kustomizations excepted."""
    for path in sorted(directory.rglob("*.yaml")):
        if path.name != FILE:
            for found in yaml.safe_load_all(path.read_text()):
                yield path, found


def faults(manifest: Manifest) -> list[str]:
    """What the API's schema, or the custom resource's, refuses; unknown fields are refused."""
    own = SCHEMAS / f"{manifest['kind']}.json"
    if own.exists():
        return [
            f"{'/'.join(map(str, error.absolute_path))}: {error.message}"
            for error in _validator(own).iter_errors(manifest)
        ]
    try:
        kubernetes_validate.validate(manifest, VERSION, strict=True)
    except kubernetes_validate.ValidationError as error:
        return [f"{'/'.join(map(str, error.path))}: {error.message}"]
    except kubernetes_validate.SchemaNotFoundError as error:
        return [error.message]
    return []


@cache
def _validator(path: Path) -> Draft202012Validator:
    return Draft202012Validator(_strict(json.loads(path.read_text())))


def _strict(schema: Any) -> Any:
    """The schema with unknown fields refused wherever fields are listed."""
    if isinstance(schema, list):
        return [_strict(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    found = {name: _strict(part) for name, part in schema.items()}
    if found.get("properties") and "additionalProperties" not in found:
        found["additionalProperties"] = False
    return found
