"""Measure original and compressed on the same questions, one model in memory at a time."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from compressor.evaluate.datasets import Example, examples
from compressor.evaluate.metrics import (
    Interval,
    bootstrap,
    cautious_difference,
    mean_difference,
    paired,
)
from compressor.evaluate.runner import score_examples
from compressor.loading import asking_dtype, assemble
from compressor.recipe import Evaluation
from compressor.work import Work


@dataclass(frozen=True)
class Accuracy:
    """By dataset."""

    original: dict[str, Interval]
    compressed: dict[str, Interval]
    difference: dict[str, Interval]
    """Compressed minus original, paired by question."""
    mean_difference: Interval | None = None
    """Of the unweighted mean over datasets; None: nothing was asked."""


def evaluate_pair(
    original: Path,
    compressed: Path,
    processor: Any,
    evaluation: Evaluation,
    seed: int,
    work: Work,
    *,
    device: torch.device,
    advance: Callable[[float], None],
) -> Accuracy:
    """Both models on the test splits; what is already in the work directory is not asked again."""
    found = Accuracy({}, {}, {})
    if not evaluation.samples:
        return found
    asked = {
        name: examples(name, "test", samples=evaluation.samples, seed=seed)
        for name in evaluation.datasets
    }
    scores = [
        scores_of(
            directory, processor, asked, work, f"evaluate/{side}", device=device,
            advance=part_of(advance, number, 2),
        )
        for number, (side, directory) in enumerate(
            (("original", original), ("compressed", compressed))
        )
    ]  # fmt: skip
    for name, groups in pictures(asked).items():
        a, b = scores[0][name], scores[1][name]
        found.original[name] = bootstrap(a, groups=groups, seed=seed)
        found.compressed[name] = bootstrap(b, groups=groups, seed=seed)
        found.difference[name] = bootstrap(paired(a, b), groups=groups, seed=seed)
    whole = mean_difference(*scores, groups=pictures(asked), seed=seed)
    return replace(found, mean_difference=whole)


def scores_of(
    directory: Path,
    processor: Any,
    asked: dict[str, list[Example]],
    work: Work,
    name: str,
    *,
    device: torch.device,
    advance: Callable[[float], None],
) -> dict[str, list[float]]:
    """A model's score on each question, by dataset."""
    model = None
    found: dict[str, list[float]] = {}
    for number, (dataset, questions) in enumerate(asked.items()):
        piece = f"{name}-{device.type}-{number}.json"  # a resumed job may be where no GPU is free
        if not work.has(piece):
            model = model or assemble(directory, asking_dtype(device)).to(device)
            scores = score_examples(
                model, processor, questions,
                advance=part_of(advance, number, len(asked)),
            )  # fmt: skip
            work.save_json(piece, scores)
        found[dataset] = work.load_json(piece)
        advance((number + 1) / len(asked))
    return found


def drop_on_validation(
    original: Path,
    compressed: Path,
    processor: Any,
    evaluation: Evaluation,
    seed: int,
    works: tuple[Work, Work],
    *,
    device: torch.device,
    advance: Callable[[float], None],
) -> Interval:
    """The paired difference of the mean over the datasets' validation splits, its lower end cautious.

    Args:
        original: the original's directory.
        compressed: the candidate's.
        processor: of both.
        evaluation: datasets and `validation_samples`.
        seed: of the draw and the bootstrap.
        works: where the original's scores are kept, and the candidate's.
        device: where they are asked.
        advance: hears the share that is done.
    """
    asked = {
        name: examples(name, "validation", samples=evaluation.validation_samples, seed=seed)
        for name in evaluation.datasets
    }
    before, after = (
        scores_of(
            directory,
            processor,
            asked,
            work,
            "validate",
            device=device,
            advance=part_of(advance, number, 2),
        )
        for number, (directory, work) in enumerate(zip((original, compressed), works, strict=True))
    )
    return cautious_difference(before, after, groups=pictures(asked), seed=seed)


def pictures(asked: Mapping[str, Sequence[Example]]) -> dict[str, list[str]]:
    """The picture of each question, by dataset: what intervals are drawn over."""
    return {name: [example.group for example in chosen] for name, chosen in asked.items()}


def part_of(advance: Callable[[float], None], index: int, count: int) -> Callable[[float], None]:
    """Progress of one of `count` equal parts."""
    return lambda share: advance((index + share) / count)
