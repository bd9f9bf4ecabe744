"""Search: the smallest model that keeps an accuracy, by bisection over plans.

The bound holds on the named validation splits at 95 % confidence: the lower end of the paired interval
of the mean difference may not fall below minus the bound. One more picture that is lost is counted in,
as no change of few answers is no proof (`cautious_difference`). Several plans are held against the same
questions, so the accepted one is a little lucky; the report therefore states the difference on the test
splits, which no plan was chosen by.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from compressor.errors import BudgetError
from compressor.evaluate.metrics import Interval
from compressor.job import Progress, Stage

TRIES = 6
SEARCH = "search.json"
"""The piece of a work directory that holds what was tried."""


@dataclass(frozen=True)
class Try:
    """One plan that was held against the bound."""

    share: float
    difference: Interval | None
    """None: the budget cannot be met."""
    accepted: bool


def bisect(
    measure: Callable[[float], Interval], bound: float, *, tries: int = TRIES
) -> tuple[float, list[Try]]:
    """The smallest share of FLOPs whose accuracy holds, and everything that was tried.

    Args:
        measure: the paired difference (compressed minus original) at a share; raises `BudgetError`
            where the share cannot be met.
        bound: the largest drop, as a share of 1.
        tries: how many shares are measured.

    Raises:
        BudgetError: not even the largest share that was tried holds.
    """
    low, high = 0.0, 1.0
    best: float | None = None
    tried: list[Try] = []
    for _ in range(tries):
        share = round((low + high) / 2, 4)
        try:
            difference = measure(share)
        except BudgetError:
            tried.append(Try(share, None, accepted=False))
            low = share
            continue
        accepted = -difference.low <= bound
        tried.append(Try(share, difference, accepted))
        if accepted:
            best, high = share, share
        else:
            low = share
    if best is None:
        last = next((t.difference for t in reversed(tried) if t.difference), None)
        seen = f" (at {tried[-1].share:g} of the FLOPs: {last.low:+.4f})" if last else ""
        raise BudgetError(
            f"No plan keeps the accuracy within max_accuracy_drop: {bound:g}{seen}; allow a larger "
            "drop, more validation_samples, or recovery steps."
        )
    return best, tried


class TryProgress:
    """Tells the stages of a search's tries as parts of the one stage `plan`."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._done = -1

    def next(self) -> None:
        """Another try begins."""
        self._done += 1
        self._progress("plan", self._done / TRIES)

    def __call__(self, stage: Stage, share: float) -> None:
        """Prune, heal and ask, about as long as each takes."""
        begin, end = {"prune": (0.0, 0.5), "heal": (0.5, 0.7)}.get(stage, (0.7, 1.0))
        # Not the end: the plan is only made when the search is over.
        self._progress("plan", (self._done + 0.99 * (begin + (end - begin) * share)) / TRIES)
