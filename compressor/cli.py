"""The compressor's commands; `service.cli` mounts them in `infoprune`."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from pydantic import ValidationError
from rich.console import Console
from rich.progress import (
    BarColumn,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)

from compressor.bar import ProgressBar
from compressor.checkpoint import read_config
from compressor.errors import CheckpointError, CompressorError, RecipeError
from compressor.leftovers import work_directory
from compressor.recipe import read_recipe
from compressor.tables import show

if TYPE_CHECKING:
    from compressor.job import MeasureLatency
    from compressor.pipeline import Progress as StageProgress
    from compressor.pipeline import Stage
    from compressor.plan import Plan
    from compressor.recipe import Recipe
    from compressor.report.data import DryRun, Report


@dataclass(frozen=True)
class Timing:
    """How the service measures times on this machine; `context.obj` of the commands."""

    measure_latency: MeasureLatency
    kept: Callable[[], Path]
    """Where measured times are kept."""


def compress(
    context: typer.Context,
    model: Annotated[
        Path, typer.Argument(help="Directory of the original, in Hugging Face layout.")
    ],
    recipe: Annotated[
        str,
        typer.Option(
            "--recipe",
            "-r",
            help="YAML or JSON file, or inline: 'flops: 0.5'; see docs/recipes.md.",
        ),
    ],
    out: Annotated[
        Path,
        typer.Option("--out", "-o", help="The new model's directory; appears when it is whole."),
    ],
    plan: Annotated[
        Path | None,
        typer.Option(help="Replay the plan.json of another compression instead of making a plan."),
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run",
            help="Calibrate, score and plan, print the plan, and stop. Scores are kept beside --out "
            "for the real run.",
        ),
    ] = False,
    overwrite: Annotated[
        bool,
        typer.Option(
            "--overwrite",
            help="Replace the compressed model at --out; an original is never replaced.",
        ),
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the report (or the plan) as JSON.")
    ] = False,
) -> None:
    """Compress a vision-language model without any service.

    Scores heads and FFNs on calibration data, prunes to the recipe's budget, compares accuracy on
    the recipe's test questions, and writes a checkpoint that vLLM loads, with a report
    (`infoprune report DIR`). Given again after a kill, it goes on where it was.
    """
    with errors_in_one_sentence():
        checked = read_recipe(recipe)
        if os.path.lexists(out) and not overwrite and not work_directory(out).exists():
            raise CheckpointError(
                f"{str(out)!r} exists; choose another --out, or replace a compressed model by "
                "--overwrite."
            )
        read_config(model)
        # Only now: torch and transformers take seconds to import, a wrong recipe does not need them.
        from compressor import pipeline

        timing: Timing | None = context.obj
        measure_latency = timing.measure_latency if timing else None
        times = timing.kept() if timing and checked.evaluation.samples else None
        replayed = read_plan(plan) if plan else None
        shown: Report | DryRun
        with stage_progress(checked) as progress:
            if dry_run:
                shown = pipeline.dry_run(
                    model, checked, out, plan=replayed, progress=progress,
                    measure_latency=measure_latency,
                )  # fmt: skip
            else:
                shown = pipeline.compress(
                    model, checked, out, plan=replayed, progress=progress,
                    measure_latency=measure_latency, times=times, overwrite=overwrite,
                )  # fmt: skip
        if as_json:
            typer.echo(json.dumps(shown.to_json(), indent=2))
        else:
            show(shown, out)


def report(model: Path, as_json: bool) -> None:
    """Print where a compressed model's report is, or the report's data.

    Args:
        model: the model's directory.
        as_json: print the data.
    """
    from compressor.report.write import data_of, page_of  # brings torch, which takes seconds

    with errors_in_one_sentence():
        if as_json:
            typer.echo(json.dumps(data_of(model), indent=2))
        else:
            typer.echo(str(page_of(model)))


def read_plan(path: Path) -> Plan:
    """A plan from its JSON file.

    Raises:
        RecipeError: it is missing or not a plan.
    """
    from compressor.plan import Plan

    try:
        return Plan.model_validate_json(path.read_text())
    except OSError as error:
        raise RecipeError(f"The plan {str(path)!r} cannot be read.") from error
    except ValidationError as error:
        raise RecipeError(f"{str(path)!r} is not a plan that infoprune wrote.") from error


@contextmanager
def errors_in_one_sentence() -> Iterator[None]:
    """End the program with status 1 and the error's sentence on standard error."""
    try:
        yield
    except CompressorError as error:
        typer.echo(f"infoprune: {error}", err=True)
        raise typer.Exit(1) from error


@contextmanager
def stage_progress(recipe: Recipe | None = None) -> Iterator[StageProgress]:
    """A progress bar on standard error that goes through the stages, with the time left of each.

    With a recipe the first line is the whole compression, counted as jobs are.
    """
    from compressor.progress import overall, stage_weights

    bar = ProgressBar(
        SpinnerColumn(),
        TextColumn("{task.description:<10}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f}%"),
        TimeRemainingColumn(),
        console=Console(stderr=True),
    )
    tasks: dict[Stage, TaskID] = {}
    weights = stage_weights(recipe) if recipe else {}
    whole = bar.add_task("all", total=100.0) if recipe else None

    def show(stage: Stage, share: float) -> None:
        if whole is not None:
            bar.update(whole, completed=overall(stage, share, weights))
        if stage not in tasks:
            tasks[stage] = bar.add_task(stage, total=1.0)
        bar.update(tasks[stage], completed=share)

    with bar:
        yield show
