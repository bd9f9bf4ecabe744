"""Accuracy with bootstrap intervals. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np

RESAMPLES = 2000
LEVEL = 0.95


@dataclass(frozen=True)
class Interval:
    """A mean over n questions with its 95 % bootstrap interval."""

    value: float
    low: float
    high: float
    n: int

    def to_json(self) -> dict[str, float]:
        """The fields, for reports."""
        return asdict(self)


def exact_match(prediction: str, answer: str) -> float:
    """1.0 where they are equal but for case, outer white space and a final full stop."""
    return float(prediction.strip().rstrip(".").lower() == answer.strip().lower())


def soft_accuracy(prediction: str, answers: Sequence[str]) -> float:
    """VQA accuracy: mean over people of min(1, how many of the others gave this answer / 3)."""
    given = [exact_match(prediction, answer) for answer in answers]
    total = sum(given)
    return sum(min(1.0, (total - own) / 3) for own in given) / len(given)


def score(prediction: str, answers: Sequence[str], metric: str) -> float:
    """Between 0 and 1, by the metric of the example's dataset."""
    if metric == "vqa":
        return soft_accuracy(prediction, answers)
    return exact_match(prediction, answers[0])


def bootstrap(scores: Sequence[float], *, seed: int = 0) -> Interval:
    """Mean and percentile interval over questions.

    For a difference of two models pass the differences per question: that is the paired bootstrap.
    """
    values = np.asarray(scores, dtype=np.float64)
    rng = np.random.default_rng(seed)
    picks = rng.integers(len(values), size=(RESAMPLES, len(values)))
    means = values[picks].mean(axis=1)
    tail = 100 * (1 - LEVEL) / 2
    low, high = np.percentile(means, [tail, 100 - tail])
    return Interval(float(values.mean()), float(low), float(high), len(values))


def mean_difference(
    before: Mapping[str, Sequence[float]], after: Mapping[str, Sequence[float]], *, seed: int = 0
) -> Interval:
    """The mean over datasets of the paired difference (after - before), each dataset counting alike.

    Questions are resampled within each dataset (stratified paired bootstrap).

    Args:
        before: a score for each question, by dataset.
        after: the other model's, of the same questions in the same order.
        seed: of the resampling.
    """
    rng = np.random.default_rng(seed)
    totals = np.zeros(RESAMPLES)
    value = 0.0
    for name, scores in before.items():
        paired = np.asarray(after[name], dtype=np.float64) - np.asarray(scores, dtype=np.float64)
        picks = rng.integers(len(paired), size=(RESAMPLES, len(paired)))
        totals += paired[picks].mean(axis=1) / len(before)
        value += float(paired.mean()) / len(before)
    tail = 100 * (1 - LEVEL) / 2
    low, high = np.percentile(totals, [tail, 100 - tail])
    return Interval(value, float(low), float(high), sum(len(scores) for scores in before.values()))
