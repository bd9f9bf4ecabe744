"""Orders in which our plan lets heads go, for ablations: by other criteria than its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from bench.compress import criteria
from bench.compress.context import Context
from bench.compress.elimination import rank_heads
from compressor.families import TowerSpec
from compressor.planning import attention_output
from compressor.scoring import LayerScores, group_columns

Order = Callable[[Context, TowerSpec, int, LayerScores], tuple[int, ...]]
"""The groups of a layer, from the first that goes."""


def lowest_first(scores: Sequence[float]) -> tuple[int, ...]:
    """Groups by a score each, ties by index."""
    return tuple(sorted(range(len(scores)), key=lambda g: (scores[g], g)))


def by_rank(context: Context, spec: TowerSpec, index: int, layer: LayerScores) -> tuple[int, ...]:
    """By effective rank alone."""
    return lowest_first([group.effective_rank for group in layer.groups])


def by_ks(context: Context, spec: TowerSpec, index: int, layer: LayerScores) -> tuple[int, ...]:
    """By KS distance alone."""
    return lowest_first([group.ks for group in layer.groups])


def sparse_first(
    context: Context, spec: TowerSpec, index: int, layer: LayerScores
) -> tuple[int, ...]:
    """By KS distance, and with the other sign of effective rank: what spreads over much goes first."""
    return lowest_first([group.ks / group.effective_rank for group in layer.groups])


def by_rank_and_small(
    context: Context, spec: TowerSpec, index: int, layer: LayerScores
) -> tuple[int, ...]:
    """By effective rank, and with the other sign of KS distance: what matters most goes first."""
    return lowest_first([group.effective_rank / max(group.ks, 1e-12) for group in layer.groups])


def reversed_score(
    context: Context, spec: TowerSpec, index: int, layer: LayerScores
) -> tuple[int, ...]:
    """The most informative heads go first."""
    return lowest_first([-group.score for group in layer.groups])


def unique(context: Context, spec: TowerSpec, index: int, layer: LayerScores) -> tuple[int, ...]:
    """By KS and effective rank of what only a head writes, scored anew when one has gone."""
    weight, statistics = attention_output(context.job, spec, index)
    return rank_heads(weight, statistics.heads, group_columns(spec))[1]


def taylor(context: Context, spec: TowerSpec, index: int, layer: LayerScores) -> tuple[int, ...]:
    """By the first-order effect on the loss."""
    return lowest_first(context.signals[spec.name, index].group_taylor.tolist())


def chance(context: Context, spec: TowerSpec, index: int, layer: LayerScores) -> tuple[int, ...]:
    """In any order."""
    noise = criteria.random([spec], context.seed)[spec.name, index].groups
    return lowest_first(noise.tolist())
