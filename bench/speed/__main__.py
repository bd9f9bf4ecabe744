"""Speed where compute dominates: original against compressed in vLLM.

    make bench-speed                                   # or .venv/bin/python -m bench.speed
    .venv/bin/python -m bench.speed --plan DIR/plan.json --plan-model models/shapes-llava
    .venv/bin/python -m bench.speed --heads            # attention cut by whole heads
    .venv/bin/python -m bench.speed --gpu              # LLaVA-1.5-7B's shape, for a CUDA machine

A random LLaVA of 0.5 B parameters (576 visual tokens) against the same with the relative plan of a
smaller model: the shares of heads, widths and ranks at the same relative depth. Prints a table and
leaves `runs/bench/speed.json`: times, the theoretical ratio of FLOPs, the share of it that is realised,
and by part what the compressed model takes beyond its share of FLOPs. What is finished is kept in
`runs/bench/speed/`; the same command goes on from there.
"""

from __future__ import annotations

import argparse
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from bench.machine import describe
from bench.page import RESULTS, markdown, write_results
from bench.plots import PLANS, speed_plot
from bench.speed.cases import Case, Shapes, cases, compare, flops_by_part, seconds_by_part
from bench.speed.models import SIZES, Size, model_config, write_model
from bench.speed.rivals import Rivals, rivals
from bench.speed.show import tables
from bench.speed.transfer import transfer
from compressor import pipeline
from compressor.checkpoint import read_config, write_json
from compressor.cli import read_plan, stage_progress
from compressor.families import FixedFlops, TowerSpec, family_of
from compressor.plan import Plan
from compressor.recipe import parse_recipe
from compressor.work import Work, digest
from service.latency.engine import engine_identity
from service.workers.machine import this_machine

RUNS = Path("runs/bench")
BUNDLED = Path("models/shapes-llava")
MINIMUM_PAIRS = 2
# Both are on one GPU, and 14 GB of weights need not be written to see how fast they are.
ON_GPU = {"memory_share": 0.42, "load_format": "dummy", "decode_graphs": True}
PICTURE = "![Times as fast, beside the ratio of FLOPs](results/speed.svg)"
DATASETS = ("easy-vqa", "drawn-text", "drawn-scenes")


@dataclass(frozen=True)
class Bench:
    """The two models and how they are measured."""

    size: Size
    specs: tuple[TowerSpec, ...]
    shapes: Shapes
    fixed: FixedFlops
    image_token: int
    pairs: int
    case_s: float
    work: Work

    def run(self, both: Rivals, case: Case) -> None:
        """Measure a case, until it has its pairs or its time is over; keep what was seen."""
        place = self.place(case)
        state: dict[str, Any] = (
            self.work.load_json(place) if self.work.has(place) else {"pairs": []}
        )
        workload = case.workload(self.image_token, self.size.image_px, timed=False)
        begun = time.monotonic()
        both.pair(workload, swapped=False)  # the first requests of a shape take longer
        while len(state["pairs"]) < self.pairs and (
            len(state["pairs"]) < MINIMUM_PAIRS or time.monotonic() - begun < self.case_s
        ):
            runs = both.pair(workload, swapped=bool(len(state["pairs"]) % 2))
            state["pairs"].append([run.seconds for run in runs])
            self.work.save_json(place, state)
        timed = case.workload(self.image_token, self.size.image_px, timed=True)
        runs = both.pair(timed, swapped=False)
        parts = [seconds_by_part(run.seconds, run.events) for run in runs]
        self.work.save_json(place, {**state, "parts": parts})

    def place(self, case: Case) -> str:
        """The name of a case's piece."""
        return f"{case.name.replace(', ', '-').replace(' ', '-')}.json"

    def finished(self, case: Case) -> bool:
        """Whether a case has been measured to its end."""
        place = self.place(case)
        return self.work.has(place) and "parts" in self.work.load_json(place)

    def result(self, case: Case) -> dict[str, Any]:
        """What a finished case shows."""
        state = self.work.load_json(self.place(case))
        before, after = (
            flops_by_part(case, self.specs, shapes, self.fixed) for shapes in ({}, self.shapes)
        )
        pairs = [(a, b) for a, b in state["pairs"]]
        return compare(pairs, (state["parts"][0], state["parts"][1]), (before, after))


def default_plan(model: Path, folder: Path, samples: int, *, heads: bool) -> Plan:
    """A plan for 3.2x fewer FLOPs of a model, made once; with `heads` attention has no ranks."""
    path = folder / f"plan-{model.name}-{samples}{'-heads' if heads else ''}.json"
    if not path.is_file():
        calibration = {"datasets": DATASETS, "samples": samples}
        recipe = parse_recipe(
            {"flops": 1 / 3.2, "low_rank_attention": not heads, "calibration": calibration}
        )
        with stage_progress() as progress:
            job = pipeline.open_job(model, recipe, folder / "planned", progress=progress)
            plan, _ = pipeline.decide(job, pipeline.score(job))
            job.work.remove()
        write_json(path, plan.model_dump(mode="json"))
    return read_plan(path)


def measure(args: argparse.Namespace, name: str) -> dict[str, Any]:
    """All cases of the models of a size."""
    size, folder = SIZES[name], RUNS / "speed"
    folder.mkdir(parents=True, exist_ok=True)
    plan = (
        read_plan(args.plan)
        if args.plan
        else default_plan(args.plan_model, folder, 32 if args.tiny else 1024, heads=args.heads)
    )
    config, source = model_config(size), read_config(args.plan_model)
    family = family_of(config)
    specs = family.towers(config)
    round_to = 64 if args.gpu else 16
    shapes = transfer(plan.towers, family_of(source).towers(source), specs, round_to)
    identity = engine_identity(args.threads)
    dtype = torch.float32 if identity.dtype == "float32" else torch.bfloat16
    facts = {
        "size": name,
        "plan": plan.sha256,
        "engine": identity.model_dump(),
        "text_tokens": [case.text_tokens for case in cases(tiny=args.tiny)],
        "pairs": args.pairs,
    }
    work = Work(folder / digest(facts)[:16], facts)
    bench = Bench(
        size, specs, shapes, family.fixed_flops(config, 0), config["image_token_index"],
        args.pairs, args.case_seconds, work,
    )  # fmt: skip
    todo = [case for case in cases(tiny=args.tiny) if not bench.finished(case)]
    if todo:
        models = work.directory / "original", work.directory / "compressed"
        for directory, towers in zip(models, (None, shapes), strict=True):
            if not directory.exists():
                write_model(directory, size, towers, dtype, weights=not args.gpu)
        longest = max(c.text_tokens + c.new_tokens for c in todo) + bench.fixed.visual_tokens + 16
        batch = max(case.batch for case in todo)
        settings = {
            "dtype": identity.dtype,
            "max_model_len": longest,
            "max_num_seqs": batch,
            **(ON_GPU if args.gpu else {}),
        }
        cache = kv_cache_gib(specs, longest * batch)
        with rivals(
            models, settings, work.directory, threads=args.threads, kv_cache_gib=cache
        ) as both:
            for case in todo:
                bench.run(both, case)
                print(f"{case.name}: done", flush=True)
    return {**facts, "cases": {case.name: bench.result(case) for case in cases(tiny=args.tiny)}}


def kv_cache_gib(specs: tuple[TowerSpec, ...], tokens: int) -> int:
    """Whole GiB for the keys and values of so many tokens in float32."""
    language = next(spec for spec in specs if spec.name == "language")
    values = 2 * language.used_layers * language.kv_heads * language.head_dim
    return 1 + 4 * values * tokens // 2**30


def main() -> None:
    """Measure, print, and write the JSON."""
    parser = argparse.ArgumentParser(prog="python -m bench.speed", description="Speed in vLLM.")
    parser.add_argument("--plan", type=Path, help="plan.json of the small model (default: 3.2x)")
    parser.add_argument("--plan-model", type=Path, default=BUNDLED, help="the plan's original")
    parser.add_argument(
        "--heads",
        action="store_true",
        help="attention cut by whole heads, so that the KV cache shrinks",
    )
    parser.add_argument("--pairs", type=int, default=5, help="runs of each model in a case")
    parser.add_argument("--case-seconds", type=float, default=150.0, help="stop a case after this")
    parser.add_argument(
        "--threads", type=int, default=this_machine().cores, help="of an engine on a CPU"
    )
    kind = parser.add_mutually_exclusive_group()
    kind.add_argument("--tiny", action="store_true", help="a minute or two, to see that it works")
    kind.add_argument("--gpu", action="store_true", help="LLaVA-1.5-7B's shape, on CUDA")
    args = parser.parse_args()
    if args.gpu:
        if not torch.cuda.is_available():
            raise SystemExit("--gpu needs a CUDA device, and there is none.")
        # Greedy answers need no sampling kernel, and a lean installation has none.
        os.environ.setdefault("VLLM_USE_FLASHINFER_SAMPLER", "0")
    name = "tiny" if args.tiny else "gpu" if args.gpu else "default"
    report = measure(args, name)
    called = f"speed{'' if name == 'default' else f'-{name}'}{'-heads' * args.heads}"
    write_json(RUNS / f"{called}.json", report)
    shown = tables(report)
    Console().print(*shown)
    if not args.tiny:
        picture = f"{PICTURE}\n\n" if called == "speed" else ""
        write_results(called, f"{picture}{markdown(*shown)}\n\n{describe()}.", report)
        if called in PLANS:
            speed_plot(RESULTS.with_suffix(""))


if __name__ == "__main__":
    main()
