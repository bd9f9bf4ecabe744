"""The `infoprune` command."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import typer
from pydantic import ValidationError

from compressor.cli import compress, errors_in_one_sentence
from compressor.evaluate_cli import evaluate
from service.errors import ServiceError, SettingsError
from service.rollout_cli import alias, models
from service.settings import Settings
from service.telemetry import configure_logging

BUNDLED_MODEL = Path("models/shapes-llava")

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Compress vision-language models by information content, serve and compare them.",
)
app.command("compress")(compress)
app.command("evaluate")(evaluate)
app.add_typer(models, name="models")
app.add_typer(alias, name="alias")


@app.callback(invoke_without_command=True)
def _root(
    show_version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if show_version:
        typer.echo(version("infoprune"))
        raise typer.Exit


@app.command()
def serve(
    models: Annotated[
        list[Path], typer.Argument(help="Model directories; each is served by its name.")
    ],
) -> None:
    """Serve models, and compress them on request: gateway, job runner, store and workers.

    Settings are environment variables, such as PORT, REDIS_URL and INFOPRUNE_RUN_DIR; see
    docs/settings.md. Ends on Ctrl-C or SIGTERM, and nothing that it started outlives it.
    """
    configure_logging()
    with service_errors(), errors_in_one_sentence():
        settings = read_settings()
        from service.jobs.runner import original_entry
        from service.supervisor import Supervisor

        entries = [original_entry(path.resolve().name, path) for path in models]
        supervisor = Supervisor(settings, entries)
        stopped = stop_on_signals()
        try:
            supervisor.start()
            typer.echo(f"Serving at {settings.gateway_url}/v1; logs in {settings.run_dir}/logs.")
            supervisor.run(stopped)
        finally:
            supervisor.stop()


@app.command()
def demo(
    once: Annotated[bool, typer.Option("--once", help="End after the table.")] = False,
    model: Annotated[Path, typer.Option(help="The original to compress.")] = BUNDLED_MODEL,
    flops: Annotated[float, typer.Option(help="Share of the original's FLOPs to keep.")] = 0.5,
    samples: Annotated[int, typer.Option(help="Questions asked of each model.")] = 300,
) -> None:
    """Serve the bundled model, compress it over HTTP, and compare the two on held-out questions.

    Leaves runs/demo/report.json. PORT= and REDIS_URL= choose another port and another store.
    """
    with service_errors(), errors_in_one_sentence():
        settings = read_settings(run_dir=Path("runs/demo"), evaluate_finished=False)
        from service.demo.run import run_demo

        run_demo(
            settings, model, flops=flops, samples=samples, once=once, stopped=stop_on_signals()
        )


def read_settings(**defaults: object) -> Settings:
    """Settings from the environment; `defaults` hold where it does not say.

    Raises:
        SettingsError: a value is wrong; names the variable.
    """
    try:
        return Settings(**{k: v for k, v in defaults.items() if not _is_set(k)})  # type: ignore[arg-type]
    except ValidationError as error:
        first = error.errors()[0]
        name = "_".join(str(part) for part in first["loc"]).upper()
        raise SettingsError(f"The setting {name} is wrong: {first['msg'].lower()}.") from error


def _is_set(name: str) -> bool:
    return getattr(Settings(), name) != Settings.model_fields[name].default


def stop_on_signals() -> threading.Event:
    """An event that Ctrl-C, SIGTERM and SIGHUP set."""
    stopped = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: stopped.set())
    return stopped


@contextmanager
def service_errors() -> Iterator[None]:
    """End the program with status 1 and the error's sentence on standard error."""
    try:
        yield
    except ServiceError as error:
        typer.echo(f"infoprune: {error}", err=True)
        raise typer.Exit(1) from error


def main() -> None:
    """Entry point."""
    app(prog_name="infoprune" if sys.argv else None)


if __name__ == "__main__":
    main()
