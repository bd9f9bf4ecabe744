"""Brings models here that another machine made, from the store that they share."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from pathlib import Path

import structlog

from compressor.errors import CheckpointError
from service.jobs.transfer import fetch_model
from service.registry import ModelEntry
from service.settings import Settings

log = structlog.get_logger()
RETRY_AFTER_S = 30.0


class Fetcher:
    """Fetches in threads of its own, one for each model, so that nobody waits for a transfer."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._fetching: dict[str, threading.Thread] = {}
        self._failed: dict[str, float] = {}

    def here(self, models: Mapping[str, ModelEntry]) -> dict[str, ModelEntry]:
        """The models that lie on this machine, with their path here; the others are on their way."""
        found = {}
        for name, entry in models.items():
            local = self._settings.models_dir.resolve() / name
            if entry.location is None or Path(entry.path).is_dir():
                found[name] = entry
            elif local.is_dir():
                found[name] = entry.model_copy(update={"path": str(local)})
            else:
                self._begin(entry)
        return found

    def _begin(self, entry: ModelEntry) -> None:
        running = self._fetching.get(entry.name)
        failed = self._failed.get(entry.name, float("-inf"))
        if (running and running.is_alive()) or time.monotonic() - failed < RETRY_AFTER_S:
            return
        thread = threading.Thread(target=self._fetch, args=(entry,), name="fetch", daemon=True)
        self._fetching[entry.name] = thread
        thread.start()

    def _fetch(self, entry: ModelEntry) -> None:
        try:
            fetch_model(entry, self._settings)
        except CheckpointError as error:
            self._failed[entry.name] = time.monotonic()
            log.warning("model not fetched", model=entry.name, error=str(error))
