"""Accuracy with bootstrap intervals. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compressor.evaluate.normalise import normalise_answers, normalise_prediction

RESAMPLES = 2000
LEVEL = 0.95
_PICKS_AT_ONCE = 4_000_000  # 32 MB of indices, however many questions there are

Floats = NDArray[np.float64]


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
    """VQA accuracy: mean over people of min(1, how many of the others gave this answer / 3).

    Of ten answers 0, 1, 2, 3 or more than 3 that match give 0, 0.3, 0.6, 0.9 or 1. Equality is that
    of the official evaluation's normalised text.

    Args:
        prediction: what a model said.
        answers: of several people, ten in the published sets.
    """
    said = normalise_prediction(prediction)
    given = [answer == said for answer in normalise_answers(tuple(answers))]
    total = sum(given)
    return sum(min(1.0, (total - own) / 3) for own in given) / len(given)


def score(prediction: str, answers: Sequence[str], metric: str) -> float:
    """Between 0 and 1, by the metric of the example's dataset."""
    if metric == "vqa":
        return soft_accuracy(prediction, answers)
    return exact_match(prediction, answers[0])


def bootstrap(
    scores: Sequence[float], *, groups: Sequence[str] | None = None, seed: int = 0
) -> Interval:
    """Mean and percentile interval over questions, or over groups of them.

    For a difference of two models pass the differences per question: that is the paired bootstrap.

    Args:
        scores: of each question; at least one.
        groups: of each question, such as its picture. Questions about one picture are correlated, so
            whole pictures are drawn (the cluster bootstrap); without groups, single questions.
        seed: of the draws.
    """
    means = _resampled_means(scores, groups, np.random.default_rng(seed))
    return _interval(float(np.mean(scores)), means, len(scores))


def mean_over_datasets(
    scores: Mapping[str, Sequence[float]],
    *,
    groups: Mapping[str, Sequence[str]] | None = None,
    seed: int = 0,
) -> Interval:
    """The unweighted mean of several datasets' means, bootstrapped within each of them.

    Args:
        scores: of each question, by dataset; for a difference of two models, the differences.
        groups: of each question, by dataset, as in `bootstrap`.
        seed: of the draws, which do not depend on the datasets' order.

    Returns:
        The interval; n counts the questions of all datasets.
    """
    rng = np.random.default_rng(seed)
    names = sorted(scores)
    resampled = [_resampled_means(scores[d], groups[d] if groups else None, rng) for d in names]
    value = float(np.mean([np.mean(scores[name]) for name in names]))
    return _interval(value, np.mean(resampled, axis=0), sum(len(scores[name]) for name in names))


def mean_difference(
    scores_a: Mapping[str, Sequence[float]],
    scores_b: Mapping[str, Sequence[float]],
    *,
    groups: Mapping[str, Sequence[str]] | None = None,
    seed: int = 0,
) -> Interval:
    """How much b is better than a on the mean over datasets: paired by question, 95 %.

    Args:
        scores_a: of the original on each question, by dataset.
        scores_b: of the other model, on the same questions in the same order.
        groups: see `mean_over_datasets`.
        seed: of the draws.

    Raises:
        ValueError: the two were not asked the same datasets, or not as many questions.
    """
    if scores_a.keys() != scores_b.keys():
        raise ValueError(f"Datasets differ: {sorted(scores_a)} and {sorted(scores_b)}.")
    differences = {name: paired(scores_a[name], scores_b[name]) for name in scores_a}
    return mean_over_datasets(differences, groups=groups, seed=seed)


def cautious_difference(
    scores_a: Mapping[str, Sequence[float]],
    scores_b: Mapping[str, Sequence[float]],
    *,
    groups: Mapping[str, Sequence[str]],
    seed: int = 0,
) -> Interval:
    """`mean_difference` whose lower end does not trust what was never seen.

    Where no answer changed, a bootstrap has nothing but zeros to draw, and its interval is [0, 0] of
    any number of questions, though 50 allow a loss of 6 % (the rule of three). The lower end is
    therefore that of these questions and of one more picture in each dataset on which b loses all: of
    50 without a change it is -0.06, of 1000 -0.003; where many answers change it matters little.

    Args:
        scores_a: as of `mean_difference`.
        scores_b: as of `mean_difference`.
        groups: see `mean_over_datasets`.
        seed: of the draws.

    Raises:
        ValueError: as `mean_difference`.
    """
    found = mean_difference(scores_a, scores_b, groups=groups, seed=seed)
    worse: dict[str, list[float]] = {}
    wider: dict[str, list[str]] = {}
    for name, own in groups.items():
        size = round(len(own) / len(set(own)))
        worse[name] = paired(scores_a[name], scores_b[name]) + [-1.0] * size
        wider[name] = [*own, *["\0one more"] * size]
    low = mean_over_datasets(worse, groups=wider, seed=seed).low
    return replace(found, low=min(found.low, low))


def paired(scores_a: Sequence[float], scores_b: Sequence[float]) -> list[float]:
    """How much b is better than a, question by question.

    Raises:
        ValueError: they have not as many questions.
    """
    return [b - a for a, b in zip(scores_a, scores_b, strict=True)]


def _resampled_means(
    scores: Sequence[float], groups: Sequence[str] | None, rng: np.random.Generator
) -> Floats:
    """(RESAMPLES,) means over the questions of as many groups as there are, drawn with replacement."""
    values = np.asarray(scores, dtype=np.float64)
    if groups is None:
        sums, sizes = values, np.ones_like(values)
    else:
        if len(groups) != len(values):
            raise ValueError(f"{len(groups)} groups were given for {len(values)} questions.")
        _, label = np.unique(np.asarray(groups, dtype=object), return_inverse=True)
        sums = np.asarray(np.bincount(label, weights=values), dtype=np.float64)
        sizes = np.asarray(np.bincount(label), dtype=np.float64)
    rows = max(1, _PICKS_AT_ONCE // len(sums))
    means: list[Any] = []
    for start in range(0, RESAMPLES, rows):
        shape = (min(rows, RESAMPLES - start), len(sums))
        picks = rng.integers(len(sums), size=shape)
        means.append(sums[picks].sum(axis=1) / sizes[picks].sum(axis=1))
    return np.concatenate(means)


def _interval(value: float, means: Floats, n: int) -> Interval:
    tail = 100 * (1 - LEVEL) / 2
    low, high = np.percentile(means, [tail, 100 - tail])
    return Interval(value, float(low), float(high), n)
