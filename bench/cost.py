"""What compressing costs: seconds and peak memory against the size of the model.

    make bench-cost                 # all sizes; hours for the last one on two cores
    make bench-cost SIZES="15M 60M"

Random LLaVAs of growing size, bf16 on disk, are compressed to half of their FLOPs, each in a process
of its own; nothing is evaluated, which needs whole models. Writes `runs/bench/cost.json`
after every size, and in the end a table in docs/results.md: seconds by stage, the process's peak of
resident memory (pages of the mapped weights included), the exponents fitted by least squares on
logarithms, and whether the largest stayed under its weights + 2 GB. Sizes that are done are kept; start
it again to go on.
"""

from __future__ import annotations

import argparse
import json
import math
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from bench.machine import describe
from bench.page import RESULTS, markdown, write_results
from compressor.leftovers import work_directory

OUT = Path("runs/bench/cost.json")
PLACE = Path("runs/bench/cost-models")
PICTURE = "![Seconds and peak memory against parameters](results/cost.svg)"
HEADROOM_BYTES = 2e9
VISUAL_TOKENS = 64  # 64x64 pixels in patches of 8x8, as the bundled model has
TEXT_TOKENS = 24  # of the shortest prompts, rounded down
HEAD_DIM = 32


@dataclass(frozen=True)
class Size:
    """Widths, FFN widths and numbers of layers of both towers, and the vocabulary."""

    vision: tuple[int, int, int]
    text: tuple[int, int, int]
    vocabulary: int

    @property
    def samples(self) -> int:
        """Calibration samples with a seventh more positions than the widest covariance has rows."""
        needed = max(
            self.vision[1] / VISUAL_TOKENS,
            self.text[0] / VISUAL_TOKENS,  # the projector
            self.text[1] / (VISUAL_TOKENS + TEXT_TOKENS),
        )
        return max(8, math.ceil(8 / 7 * needed))

    @property
    def recipe(self) -> dict[str, Any]:
        """Half of the FLOPs, training-free, nothing evaluated."""
        return {
            "flops": 0.5,
            "calibration": {"samples": self.samples},
            "evaluation": {"samples": 0},
        }


SIZES = {
    "15M": Size((256, 1024, 9), (256, 688, 8), 832),
    "60M": Size((512, 2048, 8), (512, 1376, 8), 8_000),
    "250M": Size((768, 3072, 12), (1024, 2752, 10), 16_000),
    "1B": Size((1024, 4096, 24), (2048, 5632, 12), 24_000),
}


def write_model(directory: Path, size: Size, *, seed: int = 0) -> None:
    """A random LLaVA of that size, with the bundled model's tokenizer and picture size."""
    import torch

    from compressor.random_model import write_random_weights
    from models.training.architecture import build_config, build_tokenizer, save_processor

    tokenizer = build_tokenizer()
    config = build_config(tokenizer)
    for part, (width, inner, layers) in (
        (config.vision_config, size.vision),
        (config.text_config, size.text),
    ):
        part.update({"hidden_size": width, "intermediate_size": inner, "num_hidden_layers": layers})
        part.update({"num_attention_heads": width // HEAD_DIM})
    heads = config.text_config.num_attention_heads
    config.text_config.update({"num_key_value_heads": heads, "vocab_size": size.vocabulary})
    content = config.to_dict() | {
        "architectures": ["LlavaForConditionalGeneration"],
        "dtype": "bfloat16",
    }
    directory.mkdir(parents=True)
    save_processor(directory, tokenizer)
    write_random_weights(directory, content, None, seed=seed, std=None, dtype=torch.bfloat16)


def compress_here(model: Path, out: Path, size: Size) -> dict[str, Any]:
    """Compress in this process; returns what it cost."""
    from compressor.pipeline import compress
    from compressor.recipe import parse_recipe

    report = compress(model, parse_recipe(size.recipe), out)
    assert report.spent is not None
    return {
        "params": report.original.params,
        "weight_bytes": report.original.bytes,
        "flops_ratio": report.original.flops.prompt / report.compressed.flops.prompt,
        "total_s": report.spent.total_s,
        **report.spent.to_json(),
    }


def measure(name: str) -> dict[str, Any]:
    """One size: written by one process, compressed by another."""
    model, out = PLACE / name, PLACE / f"{name}-half"
    # Not gone on with: seconds would be those of the last piece.
    for path in (model, out, work_directory(out)):
        shutil.rmtree(path, ignore_errors=True)
    step(name, "write", model)
    found: dict[str, Any] = json.loads(step(name, "compress", model, out).splitlines()[-1])
    for path in (model, out):
        shutil.rmtree(path)
    return found


def step(name: str, *arguments: object) -> str:
    """Run a part of this module in a process of its own; returns what it printed."""
    command = [sys.executable, "-m", "bench.cost", "--step", name, *map(str, arguments)]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def exponent(sizes: Sequence[float], values: Sequence[float]) -> float | None:
    """k of `value = c size^k` by least squares on logarithms; None of fewer than two sizes."""
    if len(set(sizes)) < 2:
        return None
    return float(np.polyfit(np.log(sizes), np.log(values), 1)[0])


def summary(measured: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The exponents and the bound, from what is measured so far."""
    rows = list(measured.values())
    params = [row["params"] for row in rows]
    largest = max(rows, key=lambda row: row["params"]) if rows else None
    return {
        "exponent_seconds": exponent(params, [row["total_s"] for row in rows]),
        "exponent_peak_memory": exponent(params, [row["peak_memory_bytes"] for row in rows]),
        "headroom_bytes": HEADROOM_BYTES,
        "largest_above_weights_bytes": largest
        and largest["peak_memory_bytes"] - largest["weight_bytes"],
        "within_bound": {
            name: row["peak_memory_bytes"] <= row["weight_bytes"] + HEADROOM_BYTES
            for name, row in measured.items()
        },
    }


def run(
    names: Sequence[str], out: Path, measure_one: Callable[[str], dict[str, Any]] = measure
) -> dict[str, Any]:
    """Measure what is not yet in the file, writing it after every size."""
    content = json.loads(out.read_text()) if out.is_file() else {}
    kept = {
        name: row
        for name, row in content.get("measured", {}).items()
        if name in SIZES and row["size"] == plain(SIZES[name])
    }
    for name in names:
        if name not in kept:
            kept[name] = {**measure_one(name), "size": plain(SIZES[name])}
            kept = {n: kept[n] for n in SIZES if n in kept}
            content = {
                "machine": {"processor": platform.processor() or platform.machine()},
                "measured": kept,
                "summary": summary(kept),
            }
            out.parent.mkdir(parents=True, exist_ok=True)
            temporary = out.with_suffix(".tmp")
            temporary.write_text(json.dumps(content, indent=2) + "\n")
            temporary.replace(out)
    return content


def plain(size: Size) -> dict[str, Any]:
    """A size and its recipe as they are in the file, which tell whether a figure is of them."""
    found: dict[str, Any] = json.loads(json.dumps(asdict(size) | {"recipe": size.recipe}))
    return found


def table(content: Mapping[str, Any]) -> Table:
    """A row for each size: seconds, the stages that take longest, memory."""
    shown = Table(
        "parameters", "seconds", "longest stages", "weights", "peak memory", "above weights"
    )
    for row in content["measured"].values():
        stages = sorted(row["seconds"].items(), key=lambda each: -each[1])[:3]
        weights, peak = row["weight_bytes"], row["peak_memory_bytes"]
        shown.add_row(
            f"{row['params'] / 1e6:,.0f} M", f"{row['total_s']:.0f}",
            ", ".join(f"{name} {seconds:.0f} s" for name, seconds in stages),
            *(f"{size / 1e9:.2f} GB" for size in (weights, peak, peak - weights)),
        )  # fmt: skip
    return shown


def sentence(content: Mapping[str, Any]) -> str:
    """The exponents."""
    found = content["summary"]
    if found["exponent_seconds"] is None:
        return "One size gives no exponent."
    return (
        f"Seconds grow as parameters to the {found['exponent_seconds']:.2f}, peak memory to the "
        f"{found['exponent_peak_memory']:.2f}."
    )


def main() -> None:
    """Measure, and print the summary."""
    parser = argparse.ArgumentParser(description="Cost of compressing against model size.")
    parser.add_argument("--sizes", nargs="+", choices=list(SIZES), default=list(SIZES))
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--step", nargs="+", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.step:
        name, part, *paths = args.step
        if part == "write":
            write_model(Path(paths[0]), SIZES[name])
        else:
            print(json.dumps(compress_here(Path(paths[0]), Path(paths[1]), SIZES[name])))
        return
    content = run(args.sizes, args.out)
    shown = table(content)
    Console().print(shown)
    if args.out == OUT:
        from bench.plots import (
            cost_plot,
        )  # its library would count as memory in the steps' processes

        told = f"{PICTURE}\n\n{markdown(shown)}\n\n{sentence(content)}\n\n{describe()}."
        write_results("cost", told, content)
        cost_plot(content, RESULTS.with_suffix("") / "cost.svg")


if __name__ == "__main__":
    main()
