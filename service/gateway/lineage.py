"""Which model was compressed from which, as a metric: queries join the two by it."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from prometheus_client.core import Metric

from service.registry import Snapshot
from service.telemetry.catalogue import MODEL_INFO


class Lineage:
    """A collector; made at every scrape, so that a model that was deleted leaves nothing."""

    def __init__(self, snapshot: Callable[[], Snapshot]) -> None:
        self._snapshot = snapshot

    def collect(self) -> Iterator[Metric]:
        """What a scrape gets."""
        found = MODEL_INFO.gauges()
        for entry in self._snapshot().models.values():
            found.add_metric((entry.name, entry.variant, entry.base or "", entry.state), 1)
        yield found
