"""Charts of a report as SVG, the same bytes for the same data.

Text and axes take the page's colour, so that one picture serves light and dark. Text stays text: it
is smaller than outlines, and can be read aloud.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from compressor.report.data import Curve, TowerDetails

# Stands for the page's text colour until the SVG is written; no chart draws in it otherwise.
_INK = "#010203"
_CUT = "#ff3b30"
_MARKERS = "v^s<>Poh"  # a matrix each: q, k, v, o, gate, up, down, and one more
_MAP = "viridis"
_WIDTH_IN = 4.6
_LEAST = 1e-6  # a share of energy that is called nothing
_STYLE = {
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 9,
    "text.color": _INK,
    "axes.edgecolor": _INK,
    "axes.labelcolor": _INK,
    "axes.facecolor": "none",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "figure.facecolor": "none",
    "xtick.color": _INK,
    "ytick.color": _INK,
    "legend.frameon": False,
}


def heat_map(tower: TowerDetails, *, gates: bool = False) -> str:
    """Heads by layers: a KV group's score under each of its heads, and a cross where one was cut.

    With `gates` how likely its learned gate is open, in place of the score.
    """
    values = tower.gates if gates else tower.head_scores
    cells = [[row[h // tower.group] for h in range(tower.heads)] for row in values]
    cut = [
        (h, layer)
        for layer, kept in enumerate(tower.kept_heads)
        for h in range(tower.heads)
        if h not in set(kept)
    ]
    height = 1.0 + min(6.5, 0.26 * tower.layers)
    with _figure(f"{'gates' if gates else 'heads'}-{tower.tower}", height) as (figure, axes, out):
        if cells:
            mesh = axes.pcolormesh(
                cells, cmap=_MAP, vmin=0, vmax=1 if gates else None, edgecolors="none"
            )
            label = "gate is open" if gates else "score"
            bar = figure.colorbar(mesh, ax=axes, pad=0.02, label=label)
            bar.outline.set_visible(False)
        xs, ys = [h + 0.5 for h, _ in cut], [layer + 0.5 for _, layer in cut]
        axes.scatter(xs, ys, marker="x", color=_CUT, s=140 / max(8, tower.heads), linewidths=1.2)
        axes.set(
            xlim=(0, tower.heads), ylim=(tower.layers, 0), xlabel="head", ylabel="layer",
            xticks=_ticks(tower.heads), yticks=_ticks(tower.layers),
        )  # fmt: skip
        axes.set_xticklabels([f"{t - 0.5:.0f}" for t in _ticks(tower.heads)])
        axes.set_yticklabels([f"{t - 0.5:.0f}" for t in _ticks(tower.layers)])
    return out[0]


def spectrum(tower: TowerDetails, name: str, curves: Sequence[Curve], label: str) -> str:
    """Energy lost against rank or width, one line a layer; a dot where the plan cut.

    On a logarithmic axis: a spectrum that matters has lost nearly nothing long before its end.
    """
    colours = mpl.colormaps[_MAP]
    with _figure(f"spectrum-{tower.tower}-{name}", 2.9) as (figure, axes, out):
        for layer, curve in enumerate(curves):
            depth = layer / max(1, len(curves) - 1)
            colour = colours(0.2 + 0.6 * depth)
            axes.plot(curve.at, _visible(curve.lost), color=colour, linewidth=0.9)
            if curve.chosen != curve.at[-1]:
                axes.plot(
                    curve.chosen, _visible([curve.lost_at_chosen]), marker="o", markersize=4,
                    color=_CUT, markeredgecolor="none", zorder=3,
                )  # fmt: skip
        axes.set(
            yscale="log", ylim=(_LEAST, 1.5), xlim=(0, curves[0].at[-1]), xlabel=label,
            ylabel="energy lost",
        )  # fmt: skip
        if len(curves) > 1:
            scale = mpl.cm.ScalarMappable(
                mpl.colors.Normalize(0, len(curves) - 1),
                mpl.colors.ListedColormap([colours(0.2 + 0.6 * i / 63) for i in range(64)]),
            )
            bar = figure.colorbar(scale, ax=axes, pad=0.02, label="layer")
            bar.outline.set_visible(False)
    return out[0]


def sizes(tower: TowerDetails) -> str:
    """What stays of each layer's heads, FFN width and ranks, as shares."""
    at = list(range(tower.layers))
    with _figure(f"sizes-{tower.tower}", 2.6) as (_, axes, out):
        width = [w / tower.ffn_width for w in tower.widths]
        axes.bar(at, width, color="#5b8def", label="FFN width")
        if tower.heads:
            heads = [len(kept) / tower.heads for kept in tower.kept_heads]
            axes.plot(at, heads, "D", markersize=4, color="#e08a00", label="heads")
        for number, (name, full) in enumerate(tower.full_ranks.items()):
            known = [(i, r[name]) for i, r in enumerate(tower.ranks) if r[name] is not None]
            if known:
                axes.plot(
                    [i for i, _ in known], [(r or 0) / full for _, r in known],
                    _MARKERS[number % len(_MARKERS)], markersize=4, color=_CUT, label=f"rank of {name}",
                )  # fmt: skip
        axes.set(ylim=(0, 1.05), xlabel="layer", ylabel="share kept")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=3, fontsize=8)
    return out[0]


def _visible(shares: Sequence[float]) -> list[float]:
    """Shares that a logarithmic axis can show."""
    return [max(_LEAST, share) for share in shares]


def _ticks(count: int) -> list[float]:
    """The middles of about eight cells of `count`."""
    step = max(1, round(count / 8))
    return [i + 0.5 for i in range(0, count, step)]


@contextmanager
def _figure(name: str, height_in: float) -> Iterator[tuple[Figure, Axes, list[str]]]:
    """A figure to draw into; afterwards the list holds its SVG."""
    with mpl.rc_context():
        mpl.rcdefaults()  # not the user's own style
        settings: dict[Any, Any] = _STYLE | {"svg.hashsalt": name}
        mpl.rcParams.update(settings)
        figure = Figure(figsize=(_WIDTH_IN, height_in), layout="constrained")
        FigureCanvasSVG(figure)
        out: list[str] = []
        yield figure, figure.add_subplot(), out
        file = io.StringIO()
        nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        figure.savefig(file, format="svg", metadata=nothing)
        out.append(inline_svg(file.getvalue(), name))


def inline_svg(document: str, name: str) -> str:
    """An SVG document as an element of a page: names of its own, the page's colour, scalable."""
    svg = document[document.index("<svg") :]
    svg = re.sub(r'\bid="([^"]+)"', rf'id="{name}-\1"', svg)
    svg = re.sub(r'(xlink:href="|url\()#', rf"\1#{name}-", svg)
    svg = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", svg, count=1)
    svg = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", svg, count=1)
    return svg.replace(_INK, "currentColor").strip()
