"""The report as one page: no script, nothing loaded from elsewhere."""

from __future__ import annotations

import json
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from compressor.report import charts
from compressor.report.card import rows, served_by
from compressor.report.data import Evidence, TowerDetails

NAMES = {"vision": "Vision tower", "projector": "Projector", "language": "Language model"}


def page(evidence: Evidence) -> str:
    """HTML of the report."""
    environment = Environment(
        loader=PackageLoader("compressor.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"short": short, "percent": percent}
    plan = evidence.plan
    return environment.get_template("page.html.jinja").render(
        report=evidence.report,
        plan=plan,
        rows=rows(evidence.report),
        served_by=served_by(evidence),
        recipe=json.dumps(evidence.recipe.model_dump(mode="json"), indent=2),
        weights=evidence.weights,
        tried=evidence.tried,
        recovery=evidence.recipe.recovery.steps,
        scheme=evidence.recipe.scheme,
        left=[name for tower, name in NAMES.items() if tower not in plan.towers],
        towers=[_tower(tower) for tower in evidence.towers],
    )


def _tower(tower: TowerDetails) -> dict[str, Any]:
    """What the template shows of a tower."""
    pictures: list[tuple[str, Markup]] = []
    if tower.heads:
        pictures.append(("Scores of heads; a cross: cut", _safe(charts.heat_map(tower))))
    if tower.gates:
        title = "Learned gates, how likely each is open; a cross: cut"
        pictures.append((title, _safe(charts.heat_map(tower, gates=True))))
    if tower.layers > 1:
        pictures.append(("What stays of each layer", _safe(charts.sizes(tower))))
    for name, curves in tower.spectra.items():
        drawn = charts.spectrum(tower, name, curves, f"rank of {name}")
        pictures.append((f"Whitened spectrum of {name}; a dot: the chosen rank", _safe(drawn)))
    if tower.heads and tower.width_curves:
        drawn = charts.spectrum(tower, "width", tower.width_curves, "neurons kept")
        pictures.append(("Fewer neurons; a dot: the chosen width", _safe(drawn)))
    return {
        "name": NAMES[tower.tower],
        "details": tower,
        "pictures": pictures,
        "layers": [
            {
                "heads": len(tower.kept_heads[i]),
                "width": tower.widths[i],
                "ranks": [tower.ranks[i][name] for name in tower.full_ranks],
            }
            for i in range(tower.layers)
        ],
    }


def _safe(svg: str) -> Markup:
    # Drawn here from numbers and fixed words; nothing of it came from outside.
    return Markup(svg)  # noqa: S704


def short(value: float) -> str:
    """Four digits with a unit prefix: 1.234 G."""
    for factor, prefix in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= factor:
            return f"{value / factor:.4g} {prefix}"
    return f"{value:.4g}"


def percent(value: float) -> str:
    """For a bar's length in CSS."""
    return f"{100 * min(1.0, max(0.0, value)):.1f}%"
