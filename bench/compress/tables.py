"""From outcomes to tables and the Pareto plot. Pure but for the plot's file."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from bench.compress.harness import Cell, Harness, Outcome
from bench.compress.methods import METHODS
from compressor.evaluate.example import Example
from compressor.evaluate.metrics import Interval, mean_difference
from compressor.measure import pictures

Scores = Mapping[str, Sequence[float]]
"""Of each question, by dataset."""
Groups = Mapping[str, Sequence[str]]
"""The picture of each question, by dataset."""


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
    by_seed: dict[int, float]
    """The mean over datasets, by seed."""
    difference: Interval | None
    """Of the mean to the original's, paired by question, scores averaged over seeds; 95 %."""
    seconds: float
    """Median over seeds."""
    scores: Mapping[int, Scores] = field(default_factory=dict)
    """Of each question by dataset, by seed."""

    def to_json(self) -> dict[str, Any]:
        """Plain JSON, without single questions."""
        kept = [k for k in self.__dataclass_fields__ if k not in {"difference", "scores"}]
        return {
            **{k: getattr(self, k) for k in kept},
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
    original, groups = harness.original().scores, pictures(asked)
    return [_row(key, outcomes, original, groups) for key, outcomes in found.items()]


def _row(
    key: tuple[str, float, bool],
    outcomes: Sequence[tuple[int, Outcome]],
    original: Scores,
    groups: Groups,
) -> Row:
    by_seed = {seed: outcome for seed, outcome in outcomes if outcome.share is not None}
    if not by_seed:
        return Row(*key, None, {}, float("nan"), {}, None, 0.0)
    reached = list(by_seed.values())
    scores = {seed: outcome.scores for seed, outcome in by_seed.items()}
    averaged = _averaged(scores, scores)
    accuracy = {name: float(np.mean(scores)) for name, scores in averaged.items()}
    return Row(
        *key,
        share=float(np.mean([o.share for o in reached if o.share is not None])),
        accuracy=accuracy,
        mean=float(np.mean(list(accuracy.values()))),
        by_seed={
            seed: float(np.mean([np.mean(own) for own in each.values()]))
            for seed, each in scores.items()
        },
        difference=mean_difference(original, averaged, groups=groups),
        seconds=float(np.median([o.seconds + o.recovery_seconds for o in reached])),
        scores=scores,
    )


def _averaged(scores: Mapping[int, Scores], seeds: Iterable[int]) -> dict[str, list[float]]:
    chosen = [scores[seed] for seed in seeds]
    return {name: np.mean([s[name] for s in chosen], axis=0).tolist() for name in chosen[0]}


def against(reference: Row, row: Row, groups: Groups) -> Interval | None:
    """How much better a row is than another, paired by question, over the seeds of both; 95 %."""
    seeds = sorted(reference.scores.keys() & row.scores.keys())
    if not seeds:
        return None
    both = (_averaged(reference.scores, seeds), _averaged(row.scores, seeds))
    return mean_difference(*both, groups=groups)


def accuracy_table(
    rows: Sequence[Row], methods: Sequence[str], budgets: Sequence[float], groups: Groups
) -> str:
    """Markdown: mean accuracy of each method at each budget.

    In bold: the best of a budget, and what these questions do not tell from it.
    """
    at = {(r.method, r.budget): r for r in rows if r.by_seed}
    best = {
        b: max((at[m, b] for m in methods if (m, b) in at), key=lambda r: r.mean, default=None)
        for b in budgets
    }
    missing = {(r.method, r.budget) for r in rows if not r.by_seed}
    lines = [
        "| method | " + " | ".join(f"{b:g}x fewer FLOPs" for b in budgets) + " |",
        "|---|" + "---|" * len(budgets),
    ]
    for method in methods:
        cells = [
            "cannot" if (method, b) in missing else _cell(at.get((method, b)), best[b], groups)
            for b in budgets
        ]
        lines.append(f"| `{method}`: {METHODS[method].what} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _cell(row: Row | None, best: Row | None, groups: Groups) -> str:
    if row is None or best is None:
        return "-"
    spread, text = "", f"{100 * row.mean:.1f}"
    if len(row.by_seed) > 1:
        means = row.by_seed.values()
        spread = f" ({100 * min(means):.1f}-{100 * max(means):.1f})"
    behind = against(best, row, groups)
    bold = row is best or (behind is not None and behind.high >= 0)
    return (f"**{text}**" if bold else text) + spread


def ablation_table(
    rows: Sequence[Row],
    references: Mapping[str, str],
    budgets: Sequence[float],
    groups: Groups,
) -> str:
    """Markdown: each ablation's mean and its difference to what it changes, of the same seed.

    Args:
        rows: of one seed.
        references: for each ablation the method that it changes.
        budgets: the columns.
        groups: of the questions.
    """
    at = {(r.method, r.budget): r for r in rows if r.by_seed}
    lines = [
        "| method | against | " + " | ".join(f"{b:g}x fewer FLOPs" for b in budgets) + " |",
        "|---|---|" + "---|" * len(budgets),
    ]
    for method, reference in references.items():
        cells = []
        for budget in budgets:
            row, other = at.get((method, budget)), at.get((reference, budget))
            change = against(other, row, groups) if row and other else None
            text = f"{100 * row.mean:.1f}" if row else "-"
            cells.append(text + (f": {points(change)}" if change else ""))
        lines.append(
            f"| `{method}`: {METHODS[method].what} | `{reference}` | " + " | ".join(cells) + " |"
        )
    return "\n".join(lines)


def points(change: Interval) -> str:
    """A difference in points of 100, with its interval."""
    return f"{100 * change.value:+.2f} [{100 * change.low:+.2f}, {100 * change.high:+.2f}]"


def detail_table(rows: Sequence[Row]) -> str:
    """Markdown: FLOPs share, each dataset, and the difference to the original, a row each."""
    if not rows:
        return "Not run."
    names = sorted({name for row in rows for name in row.accuracy})
    lines = [
        f"| method | budget | FLOPs | {' | '.join(names)} | mean - original | by seed | seconds |",
        "|---|---|---|" + "---|" * len(names) + "---|---|---|",
    ]
    for row in rows:
        if row.share is None or row.difference is None:
            continue
        seeds = ", ".join(f"{100 * row.by_seed[seed]:.1f}" for seed in sorted(row.by_seed))
        values = " | ".join(f"{100 * row.accuracy[name]:.1f}" for name in names)
        lines.append(
            f"| `{row.method}` | {row.budget:g}x | {row.share:.3f} | {values} | "
            f"{points(row.difference)} | {seeds} | {row.seconds:.0f} |"
        )
    return "\n".join(lines)


def plot(rows: Sequence[Row], methods: Sequence[str], original: float, path: Any) -> None:
    """The Pareto plot: FLOPs against mean accuracy, a line a method, dashed with recovery; SVG."""
    from bench.plots import drawn  # drawing takes a second to import

    with drawn(path, height_in=4.6) as (axes,):
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
