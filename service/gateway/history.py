"""The last minutes of every model's counters, so that a page that opens has a past to draw."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Sequence

import structlog
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

from service.gateway.exposition import ReplicaFiles
from service.settings import Settings
from service.traffic import Process, Reading, counts_of

log = structlog.get_logger()
EVERY_S = 5.0
KEPT_S = 15 * 60.0


class History:
    """Readings of this gateway process and of those that share its port; bounded."""

    def __init__(self, registry: CollectorRegistry, settings: Settings) -> None:
        self._registry = registry
        self._files = ReplicaFiles.of(settings)
        self._readings: deque[Reading] = deque(maxlen=int(KEPT_S / EVERY_S))

    async def run(self) -> None:
        """Read until cancelled."""
        while True:
            try:
                self._readings.append(await asyncio.to_thread(self.read))
            except Exception:  # the next reading must come, whatever this one met
                log.exception("the metrics could not be read")
            await asyncio.sleep(EVERY_S)

    def read(self) -> Reading:
        """All processes' counters now."""
        processes: dict[str, Process] = {"": counts_of(self._registry.collect())}
        others = {} if self._files is None else self._files.read_others()
        for name, text in others.items():
            processes[name] = counts_of(text_string_to_metric_families(text))
        return Reading(time.time(), processes)

    def readings(self) -> Sequence[Reading]:
        """What is kept, oldest first, and one of this moment."""
        return [*self._readings, self.read()]
