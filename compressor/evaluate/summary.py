"""From answers to accuracies, and to how much two models differ. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from compressor.evaluate.example import Example
from compressor.evaluate.metrics import (
    Interval,
    bootstrap,
    mean_difference,
    mean_over_datasets,
    paired,
    score,
)


@dataclass(frozen=True)
class Summary:
    """Accuracies with intervals, of which whole pictures are drawn."""

    accuracy: dict[str, dict[str, Interval]]
    """By model and dataset."""
    mean: dict[str, Interval]
    """By model, over datasets."""
    difference: dict[str, Interval]
    """By dataset: second model minus first, paired by question; empty for one model."""
    mean_difference: Interval | None
    """The same of the mean over datasets."""

    def to_json(self) -> dict[str, Any]:
        """For reports."""
        return {
            "models": {
                model: {
                    "accuracy": {name: i.to_json() for name, i in found.items()},
                    "mean": self.mean[model].to_json(),
                }
                for model, found in self.accuracy.items()
            },
            "difference": {name: i.to_json() for name, i in self.difference.items()},
            "mean_difference": self.mean_difference.to_json() if self.mean_difference else None,
        }


def summarise(
    asked: Mapping[str, Sequence[Example]],
    said: Mapping[str, Mapping[str, Sequence[str]]],
    *,
    seed: int,
) -> Summary:
    """Score one or two models' answers.

    Args:
        asked: examples by dataset.
        said: by model and dataset, an answer to each of them.
        seed: of the bootstrap.
    """
    groups = {name: [e.group for e in chosen] for name, chosen in asked.items()}
    scores = {
        model: {
            name: [score(t, e.answers, e.metric) for t, e in zip(texts[name], chosen, strict=True)]
            for name, chosen in asked.items()
        }
        for model, texts in said.items()
    }
    accuracy = {
        model: {name: bootstrap(s, groups=groups[name], seed=seed) for name, s in found.items()}
        for model, found in scores.items()
    }
    mean = {m: mean_over_datasets(found, groups=groups, seed=seed) for m, found in scores.items()}
    if len(scores) < 2:
        return Summary(accuracy, mean, {}, None)
    first, second = scores.values()
    difference = {
        name: bootstrap(paired(first[name], second[name]), groups=groups[name], seed=seed)
        for name in asked
    }
    whole = mean_difference(first, second, groups=groups, seed=seed)
    return Summary(accuracy, mean, difference, whole)
