"""Does the target `latency` hold? What the table predicts, beside what vLLM takes.

    make bench-latency                      # ten minutes; the machine must do nothing else
    make bench-latency ARGS='--shares 0.8 --model DIR'

Compresses a model to shares of its measured time, serves it beside its original, and asks both in turn.
Writes `runs/bench/latency.json` and a table in docs/results.md.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from rich.console import Console
from rich.table import Table

from bench.machine import describe
from bench.page import markdown, write_results
from bench.speed.rivals import rivals
from compressor.checkpoint import write_json
from compressor.errors import BudgetError
from compressor.latency.probe import open_probe
from compressor.pipeline import compress
from compressor.plan import Plan
from compressor.recipe import parse_recipe
from service.latency.engine import engine_identity
from service.latency.measure import latency_table
from service.latency.protocol import Workload
from service.settings import Settings

RUNS = Path("runs/bench")
BUNDLED = Path("models/shapes-llava")
BLOCKS = 6


def predict(
    model: Path, share: float, folder: Path, *, samples: int, repeats: int, new_tokens: int = 16
) -> dict[str, Any]:
    """Compress to a share of the latency, then time whole requests to both models.

    Args:
        model: an original.
        share: the recipe's `latency`.
        folder: where the compressed model and the engines' logs go.
        samples: calibration questions.
        repeats: requests to each model in each of the blocks, which alternate.
        new_tokens: of the reference request.
    """
    target = folder / f"{model.name}-latency{share:g}"
    recipe = parse_recipe(
        {
            "latency": share,
            "new_tokens": new_tokens,
            "calibration": {"samples": samples},
            "evaluation": {"samples": 0},
        }
    )
    cache = Settings().cache_dir
    compress(
        model, recipe, target,
        measure_latency=lambda source, advance: latency_table(source, cache, progress=advance),
        overwrite=True,
    )  # fmt: skip
    plan = Plan.model_validate_json((target / "plan.json").read_text())
    probe = open_probe(model)
    workload = Workload(
        prompt=probe.prompt, image_size=probe.image_size, new_tokens=new_tokens,
        warmups=2, repeats=repeats,
    )  # fmt: skip
    tokens = probe.request.visual_tokens + probe.request.text_tokens + new_tokens
    settings = {"dtype": engine_identity().dtype, "max_model_len": tokens + 16}
    with rivals((model, target), settings, folder) as both:
        pairs = [both.blocks(workload, swapped=bool(i % 2)) for i in range(BLOCKS)]
    ratios = sorted(median(b) / median(a) for a, b in pairs)
    original = median(seconds for a, _ in pairs for seconds in a)
    compressed = median(seconds for _, b in pairs for seconds in b)
    return {
        "asked": share,
        "predicted": plan.planned,
        "measured": compressed / original,
        "measured_range": [ratios[0], ratios[-1]],
        "original_s": original,
        "compressed_s": compressed,
        "requests": BLOCKS * repeats,
        "new_tokens": new_tokens,
    }


def checked(model: Path, shares: Sequence[float], *, samples: int, repeats: int) -> dict[str, Any]:
    """What was found of each share; where one cannot be met here, the sentence that says so."""
    found: list[dict[str, Any]] = []
    for share in shares:
        try:
            found.append(predict(model, share, RUNS / "latency", samples=samples, repeats=repeats))
        except BudgetError as error:
            found.append({"asked": share, "error": str(error)})
    engine = engine_identity().model_dump()
    return {"model": model.name, "engine": engine, "shares": found, "machine": describe()}


def table(report: Mapping[str, Any]) -> Table:
    """A row for each share; pure."""
    engine = report["engine"]
    shown = Table(
        "asked", "predicted", "measured", "blocks", "original, ms", "compressed, ms",
        title=f"{report['model']} in {engine['engine']}, {engine['dtype']}, on {engine['device']}",
    )  # fmt: skip
    for each in report["shares"]:
        if "error" in each:
            shown.add_row(f"{each['asked']:g}", each["error"], *("" for _ in range(4)))
            continue
        low, high = each["measured_range"]
        shown.add_row(
            f"{each['asked']:g}", f"{each['predicted']:.3f}", f"{each['measured']:.3f}",
            f"{low:.3f}-{high:.3f} (n={BLOCKS})",
            *(f"{1e3 * each[side]:.1f}" for side in ("original_s", "compressed_s")),
        )  # fmt: skip
    return shown


def main() -> None:
    """Measure, print, and write."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.latency", description="Is the target latency met in vLLM?"
    )
    parser.add_argument("--model", type=Path, default=BUNDLED, help="an original")
    parser.add_argument("--shares", type=float, nargs="+", default=[0.9, 0.8, 0.7])
    parser.add_argument("--tiny", action="store_true", help="few questions and requests, to try it")
    args = parser.parse_args()
    samples, repeats = (32, 3) if args.tiny else (256, 20)
    report = checked(args.model, args.shares, samples=samples, repeats=repeats)
    RUNS.mkdir(parents=True, exist_ok=True)
    write_json(RUNS / f"latency{'-tiny' * args.tiny}.json", report)
    shown = table(report)
    Console().print(shown)
    if args.model == BUNDLED and not args.tiny:  # what the page says
        write_results("latency", f"{markdown(shown)}\n\n{report['machine']}.", report)


if __name__ == "__main__":
    main()
