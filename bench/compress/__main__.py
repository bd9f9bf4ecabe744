"""Compare compression methods in one harness (`make bench-compress`); goes on where it was.

    python -m bench.compress                                  # everything; hours on two cores
    python -m bench.compress --methods ours taylor --budgets 2 --seeds 0 --samples 100
    python -m bench.compress --report                         # only write docs/results.md

Cells are kept in runs/bench/compress, a file each, and with the results, from where another machine
goes on; `--minutes` stops before the next cell.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from bench.compress.harness import RECOVERY, Cell, Harness, Outcome, grid
from bench.compress.methods import ABLATIONS, BASELINES, CONTROL, METHODS, OWN
from bench.compress.tables import (
    Row,
    ablation_table,
    accuracy_table,
    collect,
    detail_table,
    plot,
)
from bench.page import RESULTS, write_results
from compressor.measure import pictures

BUDGETS = (1.5, 2.0, 3.2, 5.0)
HARD = (3.2, 5.0)
ABLATED = HARD
SEEDS = (0, 1, 2)
OUT = RESULTS.with_suffix("")
RECOVERED_SEEDS = (0,)  # a cell with recovery takes ten times as long


def main() -> None:
    """Run what is missing, then write the report."""
    args = _arguments()
    harness = Harness(args.model, args.runs, args.samples, args.out)
    started = time.monotonic()
    cells = planned(harness, args)
    for cell in cells if not args.report else ():
        if harness.has(cell):
            continue
        if args.minutes and time.monotonic() - started > 60 * args.minutes:
            break
        outcome = harness.run(cell)
        left = sum(not harness.has(c) for c in cells)
        print(f"{cell.name}: {summary(outcome)}; {left} cells left", file=sys.stderr, flush=True)
    write(harness, planned(harness, args), args)


def planned(harness: Harness, args: argparse.Namespace) -> list[Cell]:
    """Every cell of this call; recovery of the best three comes last, once it is known who they are."""
    first = grid(args.methods or [m.name for m in (*BASELINES, *OWN)], args.budgets, args.seeds)
    if args.recovered:
        return [replace(cell, recovered=True) for cell in first]
    if args.methods:
        return first
    ablations = grid([m.name for m in ABLATIONS], ABLATED, (0,))
    if not all(harness.has(cell) for cell in first):
        return first + ablations
    rows = collect(harness, first, harness.asked())
    recovered = [
        Cell(method, budget, seed, recovered=True)
        for seed in RECOVERED_SEEDS
        for method in (*best_baselines(rows), *(m.name for m in OWN))
        for budget in HARD
    ]
    return first + ablations + recovered + controls()


def controls() -> list[Cell]:
    """The original, not cut, after the same recovery: how much of a gain is no merit of a method."""
    return [Cell(CONTROL.name, 1.0, seed, recovered=True) for seed in RECOVERED_SEEDS]


def best_baselines(rows: list[Row], count: int = 3) -> list[str]:
    """The baselines with the highest mean over the hard budgets; one that cannot reach one is out."""
    means: dict[str, list[float]] = {}
    for row in rows:
        if row.budget in HARD and not row.recovered and row.share is not None:
            means.setdefault(row.method, []).append(row.mean)
    names = [m.name for m in BASELINES if len(means.get(m.name, [])) == len(HARD)]
    return sorted(names, key=lambda name: -float(np.mean(means[name])))[:count]


def changed_by(ablation: str) -> str:
    """The method that an ablation changes: `heads` changes `ours`, `heads/ks` changes `heads`."""
    method, _, change = ablation.partition("/")
    return method if change else "ours"


def summary(outcome: Outcome) -> str:
    """One line."""
    if outcome.share is None:
        return "cannot reach the budget"
    scores = {name: float(np.mean(s)) for name, s in outcome.scores.items()}
    parts = ", ".join(f"{name} {value:.3f}" for name, value in scores.items())
    mean = np.mean(list(scores.values()))
    return f"mean {mean:.4f} ({parts}), FLOPs {outcome.share:.3f}, {outcome.seconds:.0f} s"


def write(harness: Harness, cells: list[Cell], args: argparse.Namespace) -> None:
    """`compress.json` and the plot beside docs/results.md, and the tables in it."""
    asked = harness.asked()
    names = dict.fromkeys(cell.method for cell in cells)
    recovered = (replace(cell, recovered=True) for cell in grid(names, args.budgets, args.seeds))
    more = [*recovered, *controls()]
    cells = [*cells, *(cell for cell in more if cell not in cells and harness.has(cell))]
    rows, groups = collect(harness, cells, asked), pictures(asked)
    first_seed = collect(harness, [c for c in cells if c.seed == 0 and not c.recovered], asked)
    harness.publish(cells)
    args.out.mkdir(parents=True, exist_ok=True)
    original = harness.original()
    accuracy = {name: float(np.mean(s)) for name, s in original.scores.items()}
    mean = float(np.mean(list(accuracy.values())))
    done = [outcome for cell in cells if (outcome := harness.read(cell)) is not None]
    machines = sorted({outcome.machine for outcome in done})
    content = {
        "model": args.model.name, "machines": machines, "questions_each": args.samples,
        "original": {**accuracy, "mean": mean}, "recovery": RECOVERY.model_dump(),
        "rows": [row.to_json() for row in rows],
    }  # fmt: skip
    (args.out / "compress.json").write_text(json.dumps(content, indent=1) + "\n")
    seeds = ", ".join(map(str, sorted({cell.seed for cell in cells if harness.has(cell)})))
    plain = [row for row in rows if not row.recovered]
    main_methods = [m.name for m in (*BASELINES, *OWN)]
    plot(rows, main_methods, mean, args.out / "pareto.svg")
    parts = [
        f"Original: {100 * mean:.2f} (" + ", ".join(f"{k} {100 * v:.2f}" for k, v in accuracy.items())
        + f"). {args.samples} questions of each test split, seeds {seeds}; "
        "in brackets the lowest and highest seed, - is not run yet. In bold: the best, and what its "
        f"95 % interval, paired by question, does not tell from it. {'; '.join(machines)}.",
        "### Without recovery", accuracy_table(plain, main_methods, args.budgets, groups),
        f"### With recovery ({RECOVERY.steps} steps)",
        detail_table([row for row in rows if row.recovered]),
        "### Ablations (seed 0, paired by question)",
        ablation_table(first_seed, {m.name: changed_by(m.name) for m in ABLATIONS}, ABLATED, groups),
        "### Every row", detail_table(plain),
    ]  # fmt: skip
    text = "\n\n".join(parts)
    if args.out == OUT:
        picture = "![Accuracy against FLOPs, a line a method](results/pareto.svg)"
        write_results("compress", f"{picture}\n\n{text}")
    print(text)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", type=Path, default=Path("models/shapes-llava"))
    parser.add_argument("--runs", type=Path, default=Path("runs/bench/compress"), help="cells")
    parser.add_argument("--out", type=Path, default=OUT, help="plot and JSON")
    parser.add_argument("--methods", nargs="+", choices=METHODS, metavar="METHOD",
                        help=f"of {', '.join(METHODS)}")  # fmt: skip
    parser.add_argument(
        "--budgets", nargs="+", type=float, default=BUDGETS, help="times fewer FLOPs"
    )
    parser.add_argument("--seeds", nargs="+", type=int, default=SEEDS)
    parser.add_argument("--samples", type=int, default=400, help="questions of each test split")
    parser.add_argument("--recovered", action="store_true", help="these cells, with recovery")
    parser.add_argument("--minutes", type=float, help="start no cell after so long")
    parser.add_argument("--report", action="store_true", help="run nothing, write the report")
    return parser.parse_args()


if __name__ == "__main__":
    main()
