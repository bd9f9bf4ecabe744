"""`infoprune top`."""

from __future__ import annotations

import json
import time
from contextlib import suppress
from dataclasses import replace
from typing import Annotated

import typer
from rich.console import Console
from rich.live import Live

from service.client import GatewayClient
from service.command import read_settings, service_errors
from service.errors import ServiceError
from service.top.reader import Reader
from service.top.screen import fitting, render
from service.top.view import View, check_names, only

EVERY_S, ONCE_S = 2.0, 10.0


def top(
    model: Annotated[
        list[str] | None, typer.Option(help="Only this model and its original; may be repeated.")
    ] = None,
    alias: Annotated[
        list[str] | None, typer.Option(help="Only this alias and its models; may be repeated.")
    ] = None,
    url: Annotated[
        str | None, typer.Option(help="The gateway; by default the one of the settings.")
    ] = None,
    key: Annotated[
        str | None, typer.Option(help="An API key; by default INFOPRUNE_API_KEY.")
    ] = None,
    interval: Annotated[
        float | None,
        typer.Option(min=0.1, help="Seconds from look to look, 2; with --once 10, the one look."),
    ] = None,
    window: Annotated[
        float, typer.Option(min=1.0, help="Seconds that rates and percentiles are taken over.")
    ] = 30.0,
    once: Annotated[
        bool, typer.Option("--once", help="One look, 10 seconds or --interval long.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a look.")] = False,
) -> None:
    """Watch how compressed models compare with their originals, live.

    For each model: requests, errors, queue, latency, time to the first and to each further token,
    tokens, cores, graphics cards and KV cache in use, memory, parameters, FLOPs and accuracy, and the
    ratio compressed / original; for each alias its canary or shadow; for each job how far it is.
    Percentiles come from the gateway's histograms and are as fine as their buckets. A terminal that is
    too low for all rows shows the most important ones. Ctrl-C ends it.

    Example: infoprune top --alias prod --once --json | jq '.ratios[0].p95_s'
    """
    with service_errors(), suppress(KeyboardInterrupt):
        settings = read_settings()
        client = GatewayClient(url or settings.gateway_url, api_key=key or settings.api_key)
        reader = Reader(client, window_s=window)
        every_s = interval or (ONCE_S if once else EVERY_S)
        watch = Watch(reader, every_s, frozenset(model or []), frozenset(alias or []))
        if once:
            _print(watch.look(), as_json=as_json)
        elif as_json or not Console().is_terminal:
            while True:
                _print(watch.look(), as_json=as_json)
        else:
            _live(watch)


class Watch:
    """Looks at an interval."""

    def __init__(
        self, reader: Reader, interval_s: float, models: frozenset[str], aliases: frozenset[str]
    ) -> None:
        self._reader, self._interval_s = reader, interval_s
        self._models, self._aliases = models, aliases
        self._last: View | None = None
        reader.scrape()  # rates need two
        check_names(reader.view(), models, aliases)

    def look(self) -> View:
        """What is to be seen an interval from now.

        A gateway that was there and is away, for a restart perhaps, is waited for.

        Raises:
            ServiceError: it never answered, or refuses.
        """
        time.sleep(self._interval_s)
        try:
            self._reader.scrape()
            self._last = only(self._reader.view(), self._models, self._aliases)
        except ServiceError as error:
            if self._last is None:
                raise
            return replace(self._last, notes=(f"{error} These are the last figures.",))
        return self._last


def _live(watch: Watch) -> None:
    console = Console()
    console.print("Looking for the first time...")
    with Live(console=console, auto_refresh=False, screen=True) as live:
        while True:
            live.update(fitting(watch.look(), console), refresh=True)


def _print(view: View, *, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps({"at": time.time(), **view.to_json()}))
    else:
        Console().print(render(view))
