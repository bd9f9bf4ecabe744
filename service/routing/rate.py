"""How often a key may ask: the generic cell rate algorithm (ITU-T I.371), a token bucket in one number.

Pure.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Rate:
    """So many requests a minute, of which `burst` may come at once."""

    per_minute: float
    burst: float

    @property
    def interval_s(self) -> float:
        """Seconds from one request to the next at the full rate."""
        return 60.0 / self.per_minute


def admit(rate: Rate, due: float, now: float) -> tuple[float, float]:
    """Judge one request.

    Args:
        rate: the limit.
        due: when the next request would be due at the full rate, as this function returned it before.
        now: seconds of the same clock.

    Returns:
        The new `due`, and 0.0 if the request may go on, else the seconds to wait (`due` unchanged).
    """
    following = max(due, now) + rate.interval_s
    wait = following - rate.burst * rate.interval_s - now
    # A rounding error must not refuse the last request of a burst.
    return (due, wait) if wait > 1e-9 * max(1.0, abs(now)) else (following, 0.0)
