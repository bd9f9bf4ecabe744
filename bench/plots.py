"""Pictures of speed and of cost in docs/results.md, drawn from the JSON that lies beside it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

PLANS = {"speed": "default plan", "speed-heads": "whole heads"}
"""By the name of the benchmark's JSON."""


def speed_plot(folder: Path) -> None:
    """`speed.svg`: how many times as fast each load is, single pairs' range, and the FLOPs' ratio."""
    read = {
        label: json.loads(path.read_text())["cases"]
        for name, label in PLANS.items()
        if (path := folder / f"{name}.json").is_file()
    }
    loads = list(dict.fromkeys(load for cases in read.values() for load in cases))
    width = 0.8 / max(1, len(read))
    with drawn(folder / "speed.svg") as (axes,):
        for number, (label, cases) in enumerate(read.items()):
            at = [loads.index(load) + (number - (len(read) - 1) / 2) * width for load in cases]
            found = list(cases.values())
            heights = [case["speedup"] for case in found]
            ends = np.array([case["speedup_range"] for case in found]).T
            reach = np.abs(ends - heights)
            axes.bar(
                at, heights, 0.9 * width, yerr=reach, capsize=3, color=f"C{number}", label=label
            )
            ratio = [case["flops_ratio"] for case in found]
            axes.plot(at, ratio, "_", markersize=26, color="black")
        axes.plot([], [], "_", color="black", label="ratio of FLOPs")
        axes.axhline(1, color="gray", linewidth=0.8)
        axes.set_xticks(range(len(loads)), [load.replace(", ", "\n") for load in loads])
        axes.set_ylabel("times as fast in vLLM")
        axes.legend(ncols=3, loc="lower center", bbox_to_anchor=(0.5, 1.0))


def cost_plot(content: Mapping[str, Any], path: Path) -> None:
    """Seconds, and peak memory beside the weights', against parameters, with the fitted powers."""
    rows = list(content["measured"].values())
    params = np.array([row["params"] for row in rows])
    seconds = np.array([row["total_s"] for row in rows])
    weights, peak = (
        np.array([row[key] for row in rows]) / 1e9 for key in ("weight_bytes", "peak_memory_bytes")
    )
    with drawn(path, count=2) as (left, right):
        left.plot(params, seconds, "o", color="C0", label="measured")
        if (power := content["summary"]["exponent_seconds"]) is not None:
            middle = np.exp(np.log(seconds).mean() - power * np.log(params).mean())
            left.plot(params, middle * params**power, "-", color="C0", label=f"power {power:.2f}")
        left.set(xscale="log", yscale="log", xlabel="parameters", ylabel="seconds")
        left.legend()
        right.plot(params, peak, "o-", color="C1", label="peak memory")
        right.plot(params, weights, "s-", color="C2", label="weights")
        bound = weights + content["summary"]["headroom_bytes"] / 1e9
        allowed = f"weights + {content['summary']['headroom_bytes'] / 1e9:g} GB"
        right.plot(params, bound, "--", color="gray", label=allowed)
        right.set(xscale="log", xlabel="parameters", ylabel="GB")
        right.legend()


@contextmanager
def drawn(path: Path, *, count: int = 1, height_in: float = 3.4) -> Iterator[tuple[Axes, ...]]:
    """Axes beside each other to draw into; written as SVG afterwards, the same for the same data."""
    with mpl.rc_context({"svg.hashsalt": "infoprune", "font.size": 9}):
        figure = Figure(figsize=(7.5, height_in), layout="constrained")
        yield tuple(figure.subplots(1, count, squeeze=False)[0])
        figure.savefig(path, format="svg", metadata={"Date": None})
