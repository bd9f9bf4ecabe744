from __future__ import annotations

from service.telemetry.catalogue import RETRY_REASONS
from service.telemetry.metrics import Metrics
from tests.support.registry import model

LABELS = {"model": "tiny", "variant": "original"}


def test_what_may_go_wrong_is_counted_from_zero() -> None:
    """The first retry of a series that begins with it would be in no rate, and in no alert."""
    metrics = Metrics()
    metrics.of(model("tiny"))

    def value(name: str, **labels: str) -> float | None:
        return metrics.registry.get_sample_value(name, LABELS | labels)

    assert value("infoprune_worker_ejections_total") == 0
    assert value("infoprune_breaker_openings_total") == 0
    assert {value("infoprune_retries_total", reason=reason) for reason in RETRY_REASONS} == {0}
