"""What all of the service's commands share: settings, and errors in one sentence."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import typer
from pydantic import ValidationError
from redis import Redis
from rich.console import Console
from rich.table import Table

from service.errors import ServiceError
from service.operator_errors import SettingsError
from service.settings import Settings
from service.store import embedded_url

_NO_LIMIT = 10_000  # characters
_LEAST_COLUMN = 6


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
        if not name:  # several settings do not go together
            raise SettingsError(f"{first['msg'].removeprefix('Value error, ')}.") from error
        raise SettingsError(f"The setting {name} is wrong: {first['msg'].lower()}.") from error


def process_settings() -> Settings:
    """Settings of a process that needs a store; wrong ones end it with one sentence and status 1."""
    try:
        settings = read_settings()
        settings.require_redis_url()
    except ServiceError as error:
        raise SystemExit(f"infoprune: {error}") from error
    return settings


def _is_set(name: str) -> bool:
    return getattr(Settings(), name) != Settings.model_fields[name].default


def connect_store(settings: Settings) -> Redis:
    """The store of the service that runs with these settings.

    Raises:
        StoreError: none was named, and none was started in the run directory.
    """
    return Redis.from_url(settings.redis_url or embedded_url(settings.run_dir / "valkey"))


def print_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table whose first column is whole, as it holds names. In a pipe, all columns are.

    A terminal that is too narrow gets the other columns' text on more lines.
    """
    console = Console(markup=False, emoji=False)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = _NO_LIMIT
    longest = max(len(row[0]) for row in (header, *rows))
    console.width = max(console.width, longest + _LEAST_COLUMN * len(header))
    table = Table()
    for number, title in enumerate(header):
        table.add_column(
            title, no_wrap=number == 0, overflow="fold", min_width=(number == 0) * longest
        )
    for row in rows:
        table.add_row(*row)
    console.print(table)


@contextmanager
def service_errors() -> Iterator[None]:
    """End the program with status 1 and the error's sentence on standard error."""
    try:
        yield
    except ServiceError as error:
        typer.echo(f"infoprune: {error}", err=True)
        raise typer.Exit(1) from error
