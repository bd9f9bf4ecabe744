"""When a worker is trusted: a circuit breaker over its answers, and its record of probes. Pure.

Saturation (429, 503) is no failure: a breaker that counts it takes away capacity when it is needed.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

OPENS_AFTER = 3  # failures in a row
FIRST_OPEN_S = 1.0
LONGEST_OPEN_S = 30.0
EJECTED_AFTER = 2  # probes in a row that failed
RETURNS_AFTER = 2  # probes in a row that went well


@dataclass(frozen=True)
class Breaker:
    """Closed: all may pass. Open: nobody, until a time. Half-open: one at a time, on trial."""

    failures: int = 0
    """In a row."""
    openings: int = 0
    """Since the last success."""
    until: float = 0.0
    """End of the open state, seconds of a monotonic clock."""

    def allows(self, now: float, in_flight: int) -> bool:
        """Whether one more request may go to a worker that has `in_flight` already."""
        if self.openings == 0:
            return True
        return now >= self.until and in_flight == 0

    def after_success(self) -> Breaker:
        """An answer came."""
        return CLOSED

    def after_failure(self, now: float) -> Breaker:
        """The worker broke off, answered garbage, or failed inside."""
        failures = self.failures + 1
        if self.openings == 0 and failures < OPENS_AFTER:
            return replace(self, failures=failures)
        if self.openings and now < self.until:
            return self  # one of those that were under way when it opened
        pause = min(LONGEST_OPEN_S, FIRST_OPEN_S * 2.0 ** min(self.openings, 30))
        return Breaker(failures, self.openings + 1, now + pause)


CLOSED = Breaker()


@dataclass(frozen=True)
class Health:
    """What the probes of a worker say. New workers are trusted: their manager has seen them answer."""

    ejected: bool = False
    streak: int = 0
    """Probes in a row that speak against the present state."""

    def after_probe(self, *, answered: bool) -> Health:
        """One more probe."""
        if answered != self.ejected:  # it confirms the present state
            return replace(self, streak=0)
        streak = self.streak + 1
        if streak >= (RETURNS_AFTER if self.ejected else EJECTED_AFTER):
            return Health(not self.ejected)
        return replace(self, streak=streak)

    def after_refusal(self) -> Health:
        """Nobody listens at its address: no need to ask again."""
        return Health(ejected=True)
