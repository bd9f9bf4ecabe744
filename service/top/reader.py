"""Asks a gateway for everything that is shown, again and again."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

from service.client import GatewayClient
from service.errors import ServiceError
from service.top.models import model_rows, ratios_of
from service.top.scrape import Between, Scrape, read
from service.top.view import View, alias_row, job_rows

ENDED_SHOWN_S = 600.0
"""How long a job that is over is still shown."""
_FORBIDDEN = 403


class Reader:
    """Keeps the scrapes of a sliding window."""

    def __init__(
        self, client: GatewayClient, *, window_s: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._client, self._window_s, self._clock = client, window_s, clock
        self._scrapes: deque[Scrape] = deque()

    def scrape(self) -> None:
        """Read the metrics, and forget those that the window no longer needs.

        Raises:
            ServiceError: the gateway cannot be reached, or what answers is no gateway.
        """
        text = self._client.text("/metrics")
        try:
            found = read(text, self._clock())
        except ValueError as error:
            raise ServiceError(
                "What answers at that URL does not have a gateway's metrics."
            ) from error
        if not any(name.startswith("infoprune_") for name in found.metrics):
            raise ServiceError("What answers at that URL does not have a gateway's metrics.")
        self._scrapes.append(found)
        # The oldest one that is kept lies at the window's edge or just before it.
        while len(self._scrapes) > 2 and self._scrapes[1].at_s <= found.at_s - self._window_s:
            self._scrapes.popleft()

    def view(self) -> View:
        """Everything, over the window; a scrape must have been made.

        Raises:
            ServiceError: the gateway cannot be reached or refuses the key. A key that is only not for
                some part leaves that part out, with a note.
        """
        between = Between(self._scrapes[0], self._scrapes[-1])
        notes: list[str] = []
        models = self._allowed("/v1/models", notes)
        rows = model_rows(between, models)
        aliases = self._allowed("/aliases", notes)
        views = [self._client.call("GET", f"/aliases/{quote(alias['name'])}") for alias in aliases]
        jobs = self._allowed("/compress", notes)
        return View(
            window_s=between.seconds,
            models=rows,
            ratios=ratios_of(rows),
            aliases=tuple(alias_row(view) for view in views),
            jobs=job_rows(jobs, ended_since=time.time() - ENDED_SHOWN_S),
            notes=tuple(notes),
        )

    def _allowed(self, path: str, notes: list[str]) -> Any:
        """The list at a path; an empty one and a note where the key is for other things."""
        try:
            return self._client.call("GET", path)["data"]
        except ServiceError as error:
            if error.status != _FORBIDDEN:
                raise
            notes.append(str(error))
            return []
