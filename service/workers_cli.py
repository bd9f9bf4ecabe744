"""`infoprune workers`: run workers apart from the gateway, or name ones that others run."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Annotated, cast, get_args
from urllib.parse import urlsplit

import typer

from compressor.cli import errors_in_one_sentence
from service.command import connect_store, print_table, read_settings, service_errors
from service.gateway.discovery import served_elsewhere
from service.operator_errors import SettingsError
from service.registry import Registry, Variant, WorkerState
from service.telemetry import configure_logging

app = typer.Typer(
    no_args_is_help=True, help="Workers apart from the gateway: run, add, list, remove."
)


def _registry() -> Registry:
    return Registry(connect_store(read_settings()))


@app.command()
def run(
    models: Annotated[
        list[str] | None,
        typer.Argument(help="Models to register first, as `infoprune serve` takes them."),
    ] = None,
    only: Annotated[
        str | None, typer.Option(help="Serve no others than `original` or `compressed` models.")
    ] = None,
    alive_file: Annotated[
        Path | None,
        typer.Option(
            help="A file to touch while all of its models can be asked, for health checks."
        ),
    ] = None,
) -> None:
    """Serve the registered models on this machine, those to come as well, without a gateway.

    For containers and further machines. Needs REDIS_URL; INFOPRUNE_WORKER_HOST and
    INFOPRUNE_WORKER_ADVERTISE say where gateways find the workers. Ends on SIGTERM, with its workers.
    """
    configure_logging()
    from service.jobs.runner import original_entries
    from service.workers.fleet import Fleet, stop_on_signals

    with service_errors(), errors_in_one_sentence():
        if only not in {None, *get_args(Variant)}:
            raise SettingsError(f"There are `original` and `compressed` models, not {only!r}.")
        settings = read_settings()
        entries = original_entries(models or [], settings)
        fleet = Fleet(settings, entries, cast("Variant | None", only), alive_file)
        fleet.run(stop_on_signals())


@app.command()
def add(
    model: Annotated[str, typer.Argument(help="The name under which it serves its model.")],
    url: Annotated[str, typer.Argument(help="Such as http://10.0.0.7:8000.")],
) -> None:
    """Register a worker; a model that is not known yet appears with it."""
    with service_errors():
        parts = urlsplit(url)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise SettingsError(f"{url!r} is no http(s) URL.")
        registry = _registry()
        if registry.model(model) is None:
            registry.put_model(served_elsewhere(model))
        identifier = hashlib.sha256(f"{model} {url}".encode()).hexdigest()[:8]
        state = WorkerState(id=identifier, model=model, url=url, status="ready", managed=False)
        registry.put_worker(state)
        typer.echo(f"Added {identifier}.")


@app.command("list")
def list_workers() -> None:
    """All workers, as the registry has them."""
    with service_errors():
        rows = []
        for worker in _registry().snapshot().workers:
            kept_by = "this service" if worker.managed else "others"
            state = [worker.status, kept_by, worker.error or ""]
            rows.append([worker.id, worker.model, worker.url, *state])
        print_table(["id", "model", "url", "status", "kept by", "error"], rows)


@app.command()
def remove(identifier: Annotated[str, typer.Argument(help="As `list` shows it.")]) -> None:
    """Forget a worker elsewhere; what it has in hand goes on."""
    with service_errors():
        registry = _registry()
        found = [w for w in registry.snapshot().workers if w.id == identifier and not w.managed]
        if not found:
            raise SettingsError(f"There is no worker {identifier!r} that runs elsewhere.")
        registry.remove_worker(identifier)
        typer.echo(f"Removed {identifier}.")
