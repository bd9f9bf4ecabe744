"""Which files Grafana reads, what is in them, and how they come into a cluster."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml
from grafana_foundation_sdk.builders.dashboard import Dashboard
from grafana_foundation_sdk.cog.encoder import JSONEncoder

from deploy.dashboards.comparison import comparison
from deploy.dashboards.jobs import jobs
from deploy.dashboards.serving import serving

GRAFANA = Path(__file__).resolve().parents[1] / "grafana"
PROMETHEUS_URL = "http://prometheus:9090"
"""Where Prometheus is, by its name in Compose and Kubernetes."""
_MADE = "# Made by `make dashboards`; edit deploy/dashboards/.\n"
_DATASOURCES = {
    "apiVersion": 1,
    "datasources": [
        {
            "name": "InfoPrune",
            "uid": "infoprune-prometheus",
            "type": "prometheus",
            "access": "proxy",
            "url": PROMETHEUS_URL,
            "isDefault": True,
            "editable": False,
            # As long as prometheus.yml's scrape interval: $__rate_interval is made of it.
            "jsonData": {"httpMethod": "POST", "timeInterval": "15s"},
        }
    ],
}
_PROVIDERS = {
    "apiVersion": 1,
    "providers": [
        {
            "name": "InfoPrune",
            "folder": "InfoPrune",
            "type": "file",
            "allowUiUpdates": False,
            "options": {"path": "/etc/grafana/dashboards"},
        }
    ],
}


_COMPONENT = """\
# The dashboards as ConfigMaps with the label that Grafana's sidecar looks for (kube-prometheus-stack's
# `grafana.sidecar.dashboards`); deploy/kubernetes/overlays/ bring them. One each: `kubectl apply` keeps
# a copy of an object in an annotation, of 256 KiB at most, and all together come near to that.
# The names stay without a hash, so that a new version replaces the old one.
"""


def _component(dashboards: Iterable[str]) -> str:
    """The kustomization of the dashboards' files."""
    made = {
        "apiVersion": "kustomize.config.k8s.io/v1alpha1",
        "kind": "Component",
        "configMapGenerator": [
            {"name": f"infoprune-dashboard-{Path(file).stem}", "files": [file]}
            for file in sorted(dashboards)
        ],
        "generatorOptions": {"disableNameSuffixHash": True, "labels": {"grafana_dashboard": "1"}},
    }
    return _MADE + _COMPONENT + yaml.safe_dump(made, sort_keys=False)


def contents() -> dict[str, str]:
    """The text of every file by its path under deploy/grafana/."""
    found = {
        f"dashboards/{name}.json": _json(made)
        for name, made in (("comparison", comparison()), ("serving", serving()), ("jobs", jobs()))
    }
    return found | {
        "kustomization.yaml": _component(found),
        "provisioning/datasources/prometheus.yaml": _MADE + yaml.safe_dump(_DATASOURCES),
        "provisioning/dashboards/infoprune.yaml": _MADE + yaml.safe_dump(_PROVIDERS),
    }


def write(directory: Path = GRAFANA) -> list[Path]:
    """Write all files; those that are no more made are removed. Returns what changed."""
    wanted = {directory / name: text for name, text in contents().items()}
    present = {p: p.read_text() for p in directory.rglob("*") if p.suffix in {".json", ".yaml"}}
    for path in present.keys() - wanted.keys():
        path.unlink()
    changed = [path for path, text in wanted.items() if present.get(path) != text]
    for path in changed:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(wanted[path])
    return sorted({*changed, *(present.keys() - wanted.keys())})


def _json(made: Dashboard) -> str:
    built: Any = made.build()
    for number, panel in enumerate(built.panels or [], start=1):
        panel.id_val = number
    return json.dumps(built, cls=JSONEncoder, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
