"""What the commands for models and aliases share: asking the gateway, printing its answer."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from typing import Annotated, Any

import typer

from service.client import GatewayClient
from service.command import print_table, service_errors
from service.settings import Settings

AsJson = Annotated[bool, typer.Option("--json", help="Print the gateway's JSON.")]
Url = Annotated[str | None, typer.Option(help="The gateway; by default the one of the settings.")]
Why = Annotated[str, typer.Option(help="For the history.")]


def client(url: str | None) -> GatewayClient:
    """Of a gateway, by default the settings' one."""
    settings = Settings()
    return GatewayClient(url or settings.gateway_url, api_key=settings.api_key)


def call(url: str | None, method: str, path: str, body: Any = None) -> Any:
    """The gateway's answer; a refusal ends the program in its own sentence."""
    with service_errors():
        return client(url).call(method, path, body)


def say(answer: Any, as_json: bool, sentence: str) -> None:
    """The sentence, or the answer it tells of."""
    typer.echo(json.dumps(answer, indent=2) if as_json else sentence)


def show(
    answer: Any, as_json: bool, header: Sequence[str], rows: Sequence[Sequence[str]], *notes: str
) -> None:
    """A table with notes below it, or the answer that they were made of."""
    if as_json:
        typer.echo(json.dumps(answer, indent=2))
        return
    print_table(header, rows)
    for note in notes:
        typer.echo(note)


def show_history(answer: Any, as_json: bool) -> None:
    """Who changed what."""
    rows = [[moment(c["when"]), c["who"], c["what"], c["why"]] for c in answer["data"]]
    show(answer, as_json, ["when (UTC)", "who", "what", "why"], rows)


def moment(timestamp: float) -> str:
    """A Unix time for a person, in UTC."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(timestamp))
