"""`infoprune workers`: name workers that run elsewhere, so that the gateway asks them too."""

from __future__ import annotations

import hashlib
from typing import Annotated
from urllib.parse import urlsplit

import typer
from rich.console import Console
from rich.table import Table

from service.command import connect_store, read_settings, service_errors
from service.errors import SettingsError
from service.gateway.discovery import served_elsewhere
from service.registry import Registry, WorkerState

app = typer.Typer(no_args_is_help=True, help="Workers elsewhere: add, list, remove.")


def _registry() -> Registry:
    return Registry(connect_store(read_settings()))


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
        table = Table("id", "model", "url", "status", "kept by")
        for worker in _registry().snapshot().workers:
            keeper = "this service" if worker.managed else "others"
            table.add_row(worker.id, worker.model, worker.url, worker.status, keeper)
        Console().print(table)


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
