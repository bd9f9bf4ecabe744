"""`infoprune keys`: create, list and revoke API keys."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, cast

import typer
from redis.exceptions import RedisError

from service.command import connect_store, print_table, read_settings, service_errors
from service.keys import KeyStore, Scope, write_secret
from service.operator_errors import SettingsError, StoreError

app = typer.Typer(no_args_is_help=True, help="API keys: create, list, revoke.")
SCOPES = ("inference", "jobs", "admin")
KEY_FILE = "infoprune_api_key"
_DAY_S = 86400.0


def _store() -> KeyStore:
    store = connect_store(read_settings())
    try:
        store.ping()
    except RedisError as error:
        raise StoreError("Redis cannot be reached; is the service running?") from error
    return KeyStore(store)


@app.command()
def create(
    name: Annotated[str, typer.Argument(help="For whom or what it is.")],
    scope: Annotated[list[str], typer.Option(help="inference, jobs or admin; may be repeated.")] = [  # noqa: B006 - Typer's way
        "inference"
    ],
    days: Annotated[float | None, typer.Option(min=0, help="It expires after so many.")] = None,
    per_minute: Annotated[int | None, typer.Option(min=1, help="Requests a minute.")] = None,
    concurrent: Annotated[int | None, typer.Option(min=1, help="Requests at one time.")] = None,
) -> None:
    """Make a key and print it: it is stored hashed, and cannot be shown again.

    Limits hold for all gateways together.
    """
    with service_errors():
        unknown = [value for value in scope if value not in SCOPES]
        if unknown:
            raise SettingsError(f"Unknown scope {unknown[0]!r}; scopes: {', '.join(SCOPES)}.")
        token, _ = _store().create(
            name,
            frozenset(cast("list[Scope]", scope)),
            lifetime_s=None if days is None else days * _DAY_S,
            requests_per_minute=per_minute,
            max_concurrent=concurrent,
        )
        typer.echo(token)


@app.command()
def bootstrap(
    admin: Annotated[Path, typer.Option(help="Directory for the operator's key, of scope admin.")],
    evaluations: Annotated[Path, typer.Option(help="Directory for the key of the evaluations.")],
) -> None:
    """Make the first keys of a deployment, each in a file that only its owner reads.

    The files are named `infoprune_api_key`, so that INFOPRUNE_SECRETS_DIR may name their directories.
    A key whose file is there already is left alone. Nothing is printed but where they lie.
    """
    wanted: list[tuple[str, Path, Scope]] = [
        ("first", admin, "admin"), ("evaluations", evaluations, "inference"),
    ]  # fmt: skip
    with service_errors():
        store = _store()
        for name, directory, scope in wanted:
            path = directory / KEY_FILE
            if not path.exists():
                write_secret(path, store.create(name, frozenset({scope}))[0])
            typer.echo(f"{name}: {path}")


@app.command("list")
def list_keys() -> None:
    """All keys, without their secrets."""
    with service_errors():
        rows = []
        for key in _store().list():
            expires = "never" if key.expires is None else _day(key.expires)
            if key.expired(time.time()):
                expires += " (over)"
            limits = [str(n) if n else "-" for n in (key.requests_per_minute, key.max_concurrent)]
            scopes = " ".join(sorted(key.scopes))
            rows.append([key.id, key.name, scopes, _day(key.created), expires, *limits])
        print_table(["id", "name", "scopes", "created", "expires", "a minute", "at one time"], rows)
        if not rows:
            settings = read_settings()
            where = "REDIS_URL" if settings.redis_url else f"the service in {settings.run_dir}"
            typer.echo(f"No keys in the store of {where}.")


@app.command()
def revoke(identifier: Annotated[str, typer.Argument(help="As `list` shows it.")]) -> None:
    """Revoke a key; gateways know within a second."""
    with service_errors():
        if not _store().revoke(identifier):
            raise SettingsError(f"There is no key {identifier!r}; see `infoprune keys list`.")
        typer.echo(f"Revoked {identifier}.")


def _day(timestamp: float) -> str:
    return datetime.fromtimestamp(timestamp, UTC).strftime("%Y-%m-%d %H:%M")
