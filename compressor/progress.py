"""How far a compression is, in percent and seconds: for jobs and the command line alike. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from compressor.job import STAGES, Stage
from compressor.recipe import Recipe
from compressor.search import TRIES

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
    """Percent of the whole compression, given the share of a stage."""
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
