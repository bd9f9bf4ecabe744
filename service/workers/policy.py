"""When a worker that died is started again. Pure."""

from __future__ import annotations

from dataclasses import dataclass

FIRST_DELAY_S = 1.0
LONGEST_DELAY_S = 60.0
STABLE_AFTER_S = 300.0


@dataclass(frozen=True)
class Failures:
    """How often a worker has failed since it was last stable."""

    count: int = 0
    last: float = 0.0
    """Time of the last failure, seconds of a monotonic clock."""

    def after(self, now: float, ran_s: float) -> Failures:
        """The record with one more failure; one that ran long enough starts the count anew."""
        return Failures(1 if ran_s >= STABLE_AFTER_S else self.count + 1, now)

    def may_start(self, now: float, jitter: float) -> bool:
        """Whether it is time to start again; `jitter` in [0, 1) spreads many workers out."""
        return self.count == 0 or now >= self.last + delay_s(self.count, jitter)


def delay_s(failures: int, jitter: float) -> float:
    """Exponential back-off: 1 s, 2 s, 4 s, ... up to a minute, plus up to a quarter of it."""
    if failures <= 0:
        return 0.0
    base = min(LONGEST_DELAY_S, FIRST_DELAY_S * 2.0 ** min(failures - 1, 30))
    return base * (1 + jitter / 4)
