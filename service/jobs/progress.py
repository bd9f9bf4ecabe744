"""How far a job is, in percent and seconds: pure, but for the one class that writes it down."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from compressor.errors import Cancelled
from compressor.job import STAGES, Stage
from compressor.recipe import Recipe
from compressor.search import TRIES
from service.jobs.records import JobRecords

PROGRESS_EVERY_S = 0.5
_SETTLED = 2.0
"""Percent and seconds after which a rate means something."""


def stage_weights(recipe: Recipe) -> dict[Stage, float]:
    """What each stage takes, relative to each other.

    Measured on the bundled model: they only move the progress bar. Calibrating and pruning grow with
    the samples, evaluating with the questions, training with the steps.
    """
    samples = recipe.calibration.samples / 256
    prune = 0.38 * samples
    questions = len(recipe.evaluation.datasets) / 200
    heal = 0.008 * recipe.recovery.steps
    plan = 0.004 * recipe.training.steps if recipe.scheme == "trained" else 0.01
    if recipe.max_accuracy_drop is not None:
        validate = 0.125 * questions * recipe.evaluation.validation_samples
        plan = TRIES * (plan + prune + heal) + (TRIES + 1) * validate
    return {
        "calibrate": 0.25 * samples,
        "score": 0.1,
        "plan": plan,
        "prune": prune,
        "heal": heal,
        "evaluate": 0.25 * questions * recipe.evaluation.samples,
        "export": 0.03,
    }


def overall(stage: Stage, share: float, weights: Mapping[Stage, float]) -> float:
    """Percent of the whole job, given the share of a stage."""
    before = sum(weights[s] for s in STAGES[: STAGES.index(stage)])
    return 100 * (before + weights[stage] * share) / sum(weights.values())


def seconds_left(began: float, percent: float, elapsed_s: float) -> float | None:
    """At the rate since the start; None while that says nothing.

    Args:
        began: percent at the start: a resumed job is far at once.
        percent: now.
        elapsed_s: since then.
    """
    gained = percent - began
    if gained < _SETTLED or elapsed_s < _SETTLED:
        return None
    return elapsed_s * (100.0 - percent) / gained


class Reporter:
    """Writes progress to the record, at most twice a second; stops a job that lost its token."""

    def __init__(
        self,
        records: JobRecords,
        job_id: str,
        token: str,
        recipe: Recipe,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._records, self._job_id, self._token = records, job_id, token
        self._weights = stage_weights(recipe)
        self._clock = clock
        self._told: tuple[str, float] = ("", 0.0)
        self._first: tuple[float, float] | None = None  # (seconds, percent) of the first report

    def __call__(self, stage: Stage, share: float) -> None:
        """Hear a stage and the share of it that is done.

        Raises:
            Cancelled: another execution, or nobody, may run this job.
        """
        now = self._clock()
        if stage == self._told[0] and now - self._told[1] < PROGRESS_EVERY_S:
            return
        self._told = (stage, now)
        percent = overall(stage, share, self._weights)
        self._first = self._first or (now, percent)
        left = seconds_left(self._first[1], percent, now - self._first[0])
        if not self._records.progress(self._job_id, self._token, stage, percent, left):
            raise Cancelled
