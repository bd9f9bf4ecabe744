"""Draws the figures of `docs/method.md` from a real compression of the bundled model.

    python -m deploy.reference.figures [DIR]     # of a model that was compressed already

Without DIR the bundled model is compressed to 0.3125 of its FLOPs first, which takes minutes.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from compressor.pipeline import compress
from compressor.recipe import parse_recipe
from compressor.report.charts import heat_map, sizes, spectrum
from compressor.report.data import Curve, TowerDetails
from compressor.report.write import data_of

ROOT = Path(__file__).resolve().parents[2]
FIGURES = ROOT / "docs" / "figures"
MODEL = ROOT / "models" / "shapes-llava"
TARGET = ROOT / "runs" / "figures" / "third"
RECIPE = {
    "flops": 0.3125,
    "calibration": {"datasets": ["easy-vqa", "drawn-text", "drawn-scenes"], "samples": 1024},
    "evaluation": {"samples": 0},
}
SCALE = 1.4
INK = "#808080"
"""Readable on a light and on a dark page: an image has no page's colour to take."""


def figures(towers: Mapping[str, TowerDetails]) -> dict[str, str]:
    """SVG by file name."""
    language = towers["language"]
    drawn = {
        "heads.svg": heat_map(language),
        "spectrum.svg": spectrum(
            language, "qkv_proj", language.spectra["qkv_proj"], "rank of q, k and v"
        ),
        "widths.svg": spectrum(language, "width", language.width_curves, "neurons of the FFN"),
        "vision-sizes.svg": sizes(towers["vision"]),
        "language-sizes.svg": sizes(language),
    }
    return {name: as_image(svg) for name, svg in drawn.items()}


def as_image(svg: str) -> str:
    """A chart of the report, which lies inside a page, as a file of its own: with colour and size."""
    width, height = (float(x) * SCALE for x in re.findall(r'viewBox="0 0 (\S+) (\S+)"', svg)[0])
    sized = svg.replace("<svg ", f'<svg width="{width:.0f}" height="{height:.0f}" ', 1)
    return sized.replace("currentColor", INK)


def tower_details(content: Mapping[str, Any]) -> TowerDetails:
    """What `report/data.json` says of a tower."""
    curves = {
        "spectra": {
            name: tuple(Curve(**curve) for curve in found)
            for name, found in content["spectra"].items()
        },
        "width_curves": tuple(Curve(**curve) for curve in content["width_curves"]),
    }
    return TowerDetails(**{**content, **curves})


def main() -> None:
    """Write the figures."""
    parser = argparse.ArgumentParser(description="Draw the documentation's figures.")
    parser.add_argument("directory", type=Path, nargs="?", help="a compressed model")
    directory = parser.parse_args().directory
    if directory is None:
        directory = TARGET
        if not TARGET.is_dir():
            compress(MODEL, parse_recipe(RECIPE), TARGET)
    towers = {t["tower"]: tower_details(t) for t in data_of(directory)["towers"]}
    FIGURES.mkdir(exist_ok=True)
    for name, svg in figures(towers).items():
        (FIGURES / name).write_text(svg)


if __name__ == "__main__":
    main()
