from __future__ import annotations

import pytest

from compressor.meter import Meter, peak_memory_bytes


class Clock:
    """A test's clock, set by hand."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_time_goes_to_the_stage_that_is_done_with_it() -> None:
    clock = Clock()
    meter = Meter(clock)
    for now, stage, share in (
        (2.0, "calibrate", 0.0),  # opening the model is part of the first stage
        (5.0, "calibrate", 1.0),
        (6.0, "score", 1.0),  # one layer: it tells when it is done
        (6.5, "prune", 0.5),
        (7.0, "prune", 1.0),
        (9.0, "evaluate", 0.0),  # what came after the last layer was still pruning
        (10.0, "evaluate", 1.0),
    ):
        clock.now = now
        meter(stage, share)

    spent = meter.spent()

    assert spent.seconds == {"calibrate": 5.0, "score": 1.0, "prune": 3.0, "evaluate": 1.0}
    assert spent.total_s == pytest.approx(10.0)


def test_peak_memory_is_at_least_what_is_held_now() -> None:
    before = peak_memory_bytes()
    block = bytearray(64 << 20)
    block[:: 1 << 12] = b"x" * len(block[:: 1 << 12])

    after = peak_memory_bytes()

    assert after >= 64 << 20
    assert after >= before
