"""The `infoprune` command."""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import typer

from compressor.cli import Timing, compress, errors_in_one_sentence
from compressor.cli import report as report_of
from compressor.errors import LatencyError
from compressor.evaluate_cli import evaluate
from compressor.latency.table import LatencyTable
from service import alias_cli, models_cli
from service.command import read_settings, service_errors
from service.errors import ServiceError
from service.keys_cli import app as keys_app
from service.latency.cli import latency
from service.register_cli import register_models
from service.telemetry import configure_logging
from service.top.cli import top
from service.workers.fleet import stop_on_signals
from service.workers_cli import app as workers_app

BUNDLED_MODEL = Path("models/shapes-llava")
# 3.2 times fewer FLOPs, calibrated on and asked about all that the bundled model was taught.
DEMO_RECIPE = (
    "{flops: 0.3125, "
    "calibration: {datasets: [easy-vqa, drawn-text, drawn-scenes], samples: 1024}, "
    "evaluation: {datasets: [easy-vqa, drawn-text, drawn-scenes], samples: 0}}"
)

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Compress vision-language models by information content, serve and compare them.",
)
app.add_typer(keys_app, name="keys")
app.add_typer(workers_app, name="workers")
app.command("compress")(compress)
app.command("evaluate")(evaluate)
app.command("latency")(latency)
app.command("top")(top)
models_cli.app.command("register")(register_models)
app.add_typer(models_cli.app, name="models")
app.add_typer(alias_cli.app, name="alias")


@app.callback(invoke_without_command=True)
def _root(
    context: typer.Context,
    show_version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if show_version:
        typer.echo(version("infoprune"))
        raise typer.Exit
    context.obj = Timing(measure_latency, kept=kept_times)


def measure_latency(model: Path, progress: Callable[[float], None]) -> LatencyTable:
    """What the command compress counts the target `latency` by."""
    from service.latency.measure import latency_table

    table = latency_table(model, kept_times(), progress=progress)
    if table.doubt:
        typer.echo(f"infoprune: {table.doubt}", err=True)
    return table


def kept_times() -> Path:
    """Where measured times of this machine are kept.

    Raises:
        LatencyError: a setting is wrong; the sentence says which.
    """
    try:
        return read_settings().cache_dir
    except ServiceError as error:
        raise LatencyError(str(error)) from error


@app.command()
def report(
    model: Annotated[
        str,
        typer.Argument(
            help="Directory of a model that infoprune compressed, or the name of one that a job made."
        ),
    ],
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the report's data instead.")
    ] = False,
) -> None:
    """Print where a compressed model's report is: a page for the browser."""
    made = read_settings().models_dir / model
    report_of(made if made.is_dir() and not Path(model).exists() else Path(model), as_json)


@app.command()
def serve(
    models: Annotated[
        list[str] | None,
        typer.Argument(
            help="Model directories, or hub models (owner/name) that INFOPRUNE_HUB_MODELS allows."
        ),
    ] = None,
    no_auth: Annotated[
        bool, typer.Option("--no-auth", help="Serve without API keys, to this machine only.")
    ] = False,
) -> None:
    """Serve models by their names, and compress them on request: gateway, runner, store, workers.

    Settings are environment variables, such as PORT, REDIS_URL and INFOPRUNE_RUN_DIR; see
    docs/settings.md. Ends on Ctrl-C or SIGTERM, and nothing that it started outlives it.
    """
    with service_errors(), errors_in_one_sentence():
        settings = read_settings(**({"auth": "off"} if no_auth else {}))
        configure_logging(level=settings.log_level, form=settings.log_format)
        from service.jobs.runner import original_entries
        from service.supervisor import Supervisor

        supervisor = Supervisor(settings, original_entries(models or [], settings))
        stopped = stop_on_signals()
        try:
            supervisor.start()
            typer.echo(f"Serving at {settings.gateway_url}/v1; logs in {settings.run_dir}/logs.")
            if supervisor.first_key is not None:
                typer.echo(
                    f"The first API key is in {supervisor.first_key}; `infoprune keys` makes more."
                )
            supervisor.run(stopped)
        finally:
            supervisor.stop()


@app.command()
def demo(
    once: Annotated[bool, typer.Option("--once", help="End after the table.")] = False,
    model: Annotated[Path, typer.Option(help="The original to compress.")] = BUNDLED_MODEL,
    recipe: Annotated[
        str, typer.Option("--recipe", "-r", help="YAML or JSON file, or inline.")
    ] = DEMO_RECIPE,
    recovery: Annotated[
        int | None,
        typer.Option(min=0, help="Steps of recovery, in place of the recipe's."),
    ] = None,
    samples: Annotated[
        int, typer.Option(help="Questions of each of the recipe's evaluation datasets.")
    ] = 1000,
) -> None:
    """Serve the bundled model, compress it over HTTP, and compare the two on held-out questions.

    Leaves runs/demo/report.json. PORT= and REDIS_URL= choose another port and another store.
    """
    with service_errors(), errors_in_one_sentence():
        settings = read_settings(run_dir=Path("runs/demo"), auth="off", evaluate_finished=False)
        from compressor.recipe import read_recipe
        from service.demo.run import run_demo

        chosen = read_recipe(recipe)
        if recovery is not None:
            chosen = chosen.recovered(recovery)
        run_demo(
            settings, model, recipe=chosen, samples=samples, once=once, stopped=stop_on_signals()
        )  # fmt: skip


def main() -> None:
    """Entry point."""
    app(prog_name="infoprune" if sys.argv else None)


if __name__ == "__main__":
    main()
