"""From outcomes to tables and the Pareto plot. Pure but for the plot's file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bench.compress.harness import Cell, Harness, Outcome
from bench.compress.methods import METHODS
from compressor.evaluate.example import Example
from compressor.evaluate.metrics import Interval, mean_difference


@dataclass(frozen=True)
class Row:
    """A method at a budget, over its seeds."""

    method: str
    budget: float
    recovered: bool
    share: float | None
    """Mean over seeds of FLOPs over the original's."""
    accuracy: dict[str, float]
    """Mean over seeds, by dataset."""
    mean: float
    """Over datasets."""
    by_seed: tuple[float, ...]
    difference: Interval | None
    """Of the mean to the original's, paired by question, scores averaged over seeds; 95 %."""
    seconds: float
    """Median over seeds."""

    def to_json(self) -> dict[str, Any]:
        """Plain JSON."""
        return {
            **{k: getattr(self, k) for k in self.__dataclass_fields__ if k != "difference"},
            "difference": self.difference.to_json() if self.difference else None,
        }


def collect(
    harness: Harness, cells: Sequence[Cell], asked: Mapping[str, Sequence[Example]]
) -> list[Row]:
    """A row for each method, budget and kind of recovery that has finished cells."""
    found: dict[tuple[str, float, bool], list[tuple[int, Outcome]]] = {}
    for cell in cells:
        outcome = harness.read(cell)
        if outcome is not None:
            key = (cell.method, cell.budget, cell.recovered)
            found.setdefault(key, []).append((cell.seed, outcome))
    original = harness.original().scores
    groups = {name: [e.group for e in chosen] for name, chosen in asked.items()}
    return [_row(key, outcomes, original, groups) for key, outcomes in found.items()]


def _row(
    key: tuple[str, float, bool],
    outcomes: Sequence[tuple[int, Outcome]],
    original: Mapping[str, Sequence[float]],
    groups: Mapping[str, Sequence[str]],
) -> Row:
    reached = [outcome for _, outcome in outcomes if outcome.share is not None]
    if not reached:
        return Row(*key, None, {}, float("nan"), (), None, 0.0)
    averaged = {
        name: np.mean([outcome.scores[name] for outcome in reached], axis=0).tolist()
        for name in original
    }
    accuracy = {name: float(np.mean(scores)) for name, scores in averaged.items()}
    return Row(
        *key,
        share=float(np.mean([o.share for o in reached if o.share is not None])),
        accuracy=accuracy,
        mean=float(np.mean(list(accuracy.values()))),
        by_seed=tuple(
            float(np.mean([np.mean(scores) for scores in o.scores.values()])) for o in reached
        ),
        difference=mean_difference(original, averaged, groups=groups),
        seconds=float(np.median([o.seconds + o.recovery_seconds for o in reached])),
    )


def accuracy_table(rows: Sequence[Row], methods: Sequence[str], budgets: Sequence[float]) -> str:
    """Markdown: mean accuracy of each method at each budget, the best of a budget in bold."""
    at = {(r.method, r.budget): r for r in rows}
    best = {
        b: max((at[m, b].mean for m in methods if (m, b) in at and at[m, b].by_seed), default=0.0)
        for b in budgets
    }
    lines = [
        "| method | " + " | ".join(f"{b:g}x fewer FLOPs" for b in budgets) + " |",
        "|---|" + "---|" * len(budgets),
    ]
    for method in methods:
        cells = [_cell(at.get((method, b)), best[b]) for b in budgets]
        lines.append(f"| `{method}`: {METHODS[method].what} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _cell(row: Row | None, best: float) -> str:
    if row is None:
        return "-"
    if not row.by_seed:
        return "cannot"
    spread = ""
    if len(row.by_seed) > 1:
        spread = f" ({100 * min(row.by_seed):.1f}-{100 * max(row.by_seed):.1f})"
    text = f"{100 * row.mean:.1f}"
    return (f"**{text}**" if row.mean >= best - 1e-9 else text) + spread


def detail_table(rows: Sequence[Row]) -> str:
    """Markdown: FLOPs share, each dataset, and the difference to the original, a row each."""
    if not rows:
        return "Not run."
    names = sorted({name for row in rows for name in row.accuracy})
    lines = [
        f"| method | budget | FLOPs | {' | '.join(names)} | mean - original | seconds |",
        "|---|---|---|" + "---|" * len(names) + "---|---|",
    ]
    for row in rows:
        if row.share is None or row.difference is None:
            continue
        d = row.difference
        values = " | ".join(f"{100 * row.accuracy[name]:.1f}" for name in names)
        lines.append(
            f"| `{row.method}` | {row.budget:g}x | {row.share:.3f} | {values} | "
            f"{100 * d.value:+.2f} [{100 * d.low:+.2f}, {100 * d.high:+.2f}] | {row.seconds:.0f} |"
        )
    return "\n".join(lines)


def plot(rows: Sequence[Row], methods: Sequence[str], original: float, path: Any) -> None:
    """The Pareto plot: FLOPs against mean accuracy, a line a method, dashed with recovery; SVG."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context({"svg.hashsalt": "infoprune", "font.size": 9}):
        figure = Figure(figsize=(7.5, 4.6), layout="constrained")
        axes = figure.subplots()
        for number, method in enumerate(methods):
            own = method.startswith("ours")
            for recovered in (False, True):
                points = sorted(
                    (row.share, 100 * row.mean)
                    for row in rows
                    if row.method == method and row.recovered is recovered and row.share
                )
                if points:
                    axes.plot(
                        *zip(*points, strict=True), label=method + (" + recovery" * recovered),
                        marker="os^v"[number % 4], markersize=4, color=f"C{number % 10}",
                        linewidth=2.4 if own else 1, linestyle="--" if recovered else "-",
                    )  # fmt: skip
        axes.axhline(100 * original, color="gray", linewidth=0.8)
        axes.set_xlabel("FLOPs before the first token, share of the original")
        axes.set_ylabel("accuracy, mean of three held-out sets, %")
        axes.legend(fontsize=7, ncols=2)
        figure.savefig(path, format="svg", metadata={"Date": None})
