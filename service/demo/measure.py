"""Compare two served models on the same questions, in turns, so that noise hits both alike."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from compressor.evaluate.datasets import Example
from compressor.evaluate.metrics import bootstrap
from service.demo.client import Answer, ServiceClient

BLOCK = 50  # questions of one model before the other has its turn
CONCURRENCY = 8
LATENCY_BLOCK = 10


async def compare(
    client: ServiceClient,
    names: Sequence[str],
    dataset: str,
    asked: Sequence[Example],
    *,
    latency_samples: int,
    advance: Callable[[float], None],
) -> list[dict[str, Any]]:
    """Accuracy, latency and throughput of each model.

    Latency is that of one request at a time; throughput that of `CONCURRENCY` clients, the median
    over blocks. Every block is asked of each model in turn.
    """
    answers: dict[str, list[Answer]] = {name: [] for name in names}
    rates: dict[str, list[float]] = {name: [] for name in names}
    latencies: dict[str, list[float]] = {name: [] for name in names}
    await _warm_up(client, names, asked)
    total = latency_samples + len(asked)
    for start in range(0, latency_samples, LATENCY_BLOCK):
        block = asked[start : start + LATENCY_BLOCK]
        for name in names:
            alone, _ = await client.ask_all(name, block, concurrency=1)
            latencies[name] += [answer.latency_s for answer in alone]
        advance((start + len(block)) / total)
    for start in range(0, len(asked), BLOCK):
        block = asked[start : start + BLOCK]
        for name in names:
            found, seconds = await client.ask_all(name, block, concurrency=CONCURRENCY)
            answers[name] += found
            rates[name].append(len(block) / seconds)
        advance((latency_samples + start + len(block)) / total)
    return [
        {
            "accuracy": {dataset: bootstrap([a.score for a in answers[name]]).to_json()},
            "latency_s": {
                "p50": float(np.percentile(latencies[name], 50)),
                "p95": float(np.percentile(latencies[name], 95)),
            },
            "throughput_rps": statistics.median(rates[name]),
        }
        for name in names
    ]


async def _warm_up(client: ServiceClient, names: Sequence[str], asked: Sequence[Example]) -> None:
    """The engine's first requests allocate; they are not counted."""
    for name in names:
        await client.ask_all(name, asked[-2 * CONCURRENCY :], concurrency=CONCURRENCY)
