"""Compare two served models on the same questions, in turns, so that noise hits both alike."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

import numpy as np

from compressor.evaluate.datasets import Example
from compressor.evaluate.metrics import Interval, bootstrap, mean_difference, paired
from service.demo.client import ServiceClient

BLOCK = 50  # questions of one model before the other has its turn
CONCURRENCY = 8
LATENCY_BLOCK = 10


@dataclass(frozen=True)
class Comparison:
    """What was measured of two models on the same questions."""

    sides: list[dict[str, Any]]
    """Of each: `accuracy` by dataset, `latency_s`, `throughput_rps`."""
    accuracy: dict[str, dict[str, Interval]]
    """By model and dataset."""
    difference: dict[str, Interval]
    """The second's accuracy less the first's by dataset, paired by question."""
    mean_difference: Interval
    """The same of the mean over datasets."""


async def compare(
    client: ServiceClient,
    names: tuple[str, str],
    asked: Mapping[str, Sequence[Example]],
    *,
    latency_samples: int,
    advance: Callable[[float], None],
) -> Comparison:
    """Accuracy, latency and throughput of each model, and how the accuracies differ.

    Latency is that of one request at a time; throughput that of `CONCURRENCY` clients, the median
    over blocks. Every block is asked of each model in turn.

    Args:
        client: asks.
        names: the original and the compressed model.
        asked: questions by dataset.
        latency_samples: how many of them, of all datasets in turn, are asked one at a time.
        advance: hears the share that is done.
    """
    scores: dict[str, dict[str, list[float]]] = {n: {d: [] for d in asked} for n in names}
    rates: dict[str, list[float]] = {name: [] for name in names}
    latencies: dict[str, list[float]] = {name: [] for name in names}
    mixed = [each for row in zip_longest(*asked.values()) for each in row if each is not None]
    await _warm_up(client, names, mixed)
    latency_samples = min(latency_samples, len(mixed))
    total = latency_samples + len(mixed)
    for start in range(0, latency_samples, LATENCY_BLOCK):
        block = mixed[start : start + LATENCY_BLOCK]
        for name in names:
            alone, _ = await client.ask_all(name, block, concurrency=1)
            latencies[name] += [answer.latency_s for answer in alone]
        advance((start + len(block)) / total)
    done = latency_samples
    for dataset, questions in asked.items():
        for start in range(0, len(questions), BLOCK):
            part = questions[start : start + BLOCK]
            for name in names:
                found, seconds = await client.ask_all(name, part, concurrency=CONCURRENCY)
                scores[name][dataset] += [answer.score for answer in found]
                rates[name].append(len(part) / seconds)
            done += len(part)
            advance(done / total)
    groups = {dataset: [each.group for each in questions] for dataset, questions in asked.items()}
    accuracy = {
        name: {d: bootstrap(found, groups=groups[d]) for d, found in scores[name].items()}
        for name in names
    }
    first, second = (scores[name] for name in names)
    sides = [
        {
            "accuracy": {d: found.to_json() for d, found in accuracy[name].items()},
            "latency_s": {
                "p50": float(np.percentile(latencies[name], 50)),
                "p95": float(np.percentile(latencies[name], 95)),
            },
            "throughput_rps": statistics.median(rates[name]),
        }
        for name in names
    ]
    difference = {d: bootstrap(paired(first[d], second[d]), groups=groups[d]) for d in asked}
    return Comparison(sides, accuracy, difference, mean_difference(first, second, groups=groups))


async def _warm_up(client: ServiceClient, names: Sequence[str], asked: Sequence[Example]) -> None:
    """The engine's first requests allocate; they are not counted."""
    for name in names:
        await client.ask_all(name, asked[-2 * CONCURRENCY :], concurrency=CONCURRENCY)
