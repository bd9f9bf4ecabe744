"""How long things have lasted, by a clock that nobody can set.

What is written down carries Unix time, for people and for other machines. Such a clock jumps: by
hand, by NTP, with a virtual machine that slept. Decisions go by the age that this process has seen
instead.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Iterable


class Ages:
    """When each thing was first seen in the state that its key names."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._first: dict[Hashable, float] = {}

    def of(self, key: Hashable, claimed_s: float = 0.0) -> float:
        """Seconds since `key` was first asked for.

        Args:
            key: the thing and its state; a change of either makes it new.
            claimed_s: its age at first sight, as what is written down says; one below 0 counts as 0.
        """
        now = self._clock()
        return now - self._first.setdefault(key, now - max(0.0, claimed_s))

    def keep(self, keys: Iterable[Hashable]) -> None:
        """Forget all others."""
        kept = set(keys)
        self._first = {key: first for key, first in self._first.items() if key in kept}
