"""Quantiles of a histogram, as Prometheus's `histogram_quantile` estimates them. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence


def histogram_quantile(q: float, edges: Sequence[float], counts: Sequence[float]) -> float | None:
    """The q-quantile of what was observed, linear within its bucket.

    Source: Prometheus, `promql/quantile.go`, classic histograms. A quantile in the last bucket, which
    has no end, is that bucket's start; the first bucket starts at 0.

    Args:
        q: between 0 and 1.
        edges: upper bounds of the buckets, ascending, the last one infinite; shape (B,).
        counts: observations up to each bound, cumulative; shape (B,).

    Returns:
        In the edges' unit; None where nothing was observed.

    Raises:
        ValueError: the last bound is finite, or shapes differ.
    """
    if len(edges) != len(counts) or not edges or not math.isinf(edges[-1]):
        raise ValueError(
            "A histogram has as many counts as bounds, and the last bound is infinite."
        )
    total = counts[-1]
    if total <= 0:
        return None
    rank = q * total
    index = next((i for i, count in enumerate(counts) if count >= rank), len(counts) - 1)
    if index == len(edges) - 1:
        return edges[-2] if len(edges) > 1 else None
    if index == 0 and edges[0] <= 0:
        return edges[0]
    start, below = (edges[index - 1], counts[index - 1]) if index else (0.0, 0.0)
    inside = counts[index] - below
    if inside <= 0:
        return edges[index]
    return start + (edges[index] - start) * (rank - below) / inside
