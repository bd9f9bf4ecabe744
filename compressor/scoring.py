"""Scores: how much information heads and matrices carry. Pure functions of statistics and weights.

The paper's abstract (arXiv 2511.19518) names the measures, effective rank and Kolmogorov-Smirnov
distance; how they are joined here is this project's own reading, written out below.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from compressor.calibrate import LayerStatistics
from compressor.families import TowerSpec

_RIDGE = 1e-6


@dataclass(frozen=True)
class HeadScore:
    """Information content of one KV group (one head without grouped-query attention)."""

    effective_rank: float
    """Of the whitened contribution: 1 .. width."""
    ks: float
    """KS distance between the output's spectral energy with and without the group."""
    score: float
    """`ks * effective_rank / (largest effective rank of the layer)`."""


@dataclass(frozen=True)
class LayerScores:
    """Everything that planning needs to know of a layer."""

    groups: tuple[HeadScore, ...]
    order: tuple[int, ...]
    """Groups from the least informative to the most: the order in which they go."""
    attention_loss: tuple[float, ...]
    """[k]: loss when the first k of `order` are gone and the others compensate."""
    matrix_loss: dict[str, tuple[float, ...]]
    """[r]: loss of an FFN matrix at rank r, from 0 to full."""


def effective_rank(singular_values: Tensor) -> float:
    """`exp(-sum p ln p)`, `p = s / sum(s)` (Roy & Vetterli 2007); 0 of an empty or zero spectrum."""
    s = singular_values.double().clamp_min(0)
    total = float(s.sum())
    if total <= 0:
        return 0.0
    p = s / total
    p = p[p > 0]
    return math.exp(-float((p * p.log()).sum()))


def ks_distance(original: Tensor, changed: Tensor) -> float:
    """KS distance of two energy distributions over the same directions.

    `sup_i |F(i) - G(i)|` with `F(i) = sum_{j<=i} original_j / sum(original)` and G alike, with the
    *original's* sum under both: energy that is lost counts, as does energy that moves to other
    directions. It is not the distance between samples of singular values, which for a truncation is
    always 1 - k/n whatever the spectrum.

    Args:
        original: energies (variances) along the original's principal directions, descending.
        changed: energies along the *same* directions after the change.
    """
    total = float(original.sum())
    if total <= 0:
        return 0.0
    gap = (original.double() - changed.double()).cumsum(0).abs()
    return float(gap.max()) / total


def square_root(covariance: Tensor) -> Tensor:
    """R (n, n) with `R R^T = C`: eigenvectors times the roots of the eigenvalues, fp64."""
    values, vectors = torch.linalg.eigh(covariance)
    return vectors * values.clamp_min(0).sqrt()


def whitened_energies(weight: Tensor, covariance: Tensor) -> Tensor:
    """Squared singular values of `W C^(1/2)`, descending: the energy that each rank carries."""
    return torch.linalg.svdvals(weight.double() @ square_root(covariance)).square()


def tail(energies: Tensor) -> Tensor:
    """[r]: the energy lost by keeping the first r; n + 1 values from all to none."""
    reversed_sums = energies.flip(0).cumsum(0).flip(0)
    return torch.cat([reversed_sums, reversed_sums.new_zeros(1)])


def score_heads(weight: Tensor, covariance: Tensor, columns: list[Tensor]) -> list[HeadScore]:
    """Score each group of an attention layer in the space of its output.

    Args:
        weight: (width, h d), the output matrix.
        covariance: (h d, h d) of its input.
        columns: for each group, the columns that its heads fill.
    """
    w = weight.double()
    output = w @ covariance @ w.T
    values, directions = torch.linalg.eigh(output)
    values, directions = values.flip(0).clamp_min(0), directions.flip(1)
    found: list[tuple[float, float]] = []
    for own in columns:
        spectrum = torch.linalg.svdvals(w[:, own] @ square_root(covariance[own][:, own]))
        rest = w.clone()
        rest[:, own] = 0
        without = ((directions.T @ rest) @ covariance * (directions.T @ rest)).sum(1)
        found.append((effective_rank(spectrum), ks_distance(values, without)))
    largest = max(rank for rank, _ in found) or 1.0
    return [HeadScore(rank, ks, ks * rank / largest) for rank, ks in found]


def compensated_loss(weight: Tensor, covariance: Tensor, gone: Tensor) -> float:
    """Energy that the output loses without the columns `gone`, the others fitted to replace them.

    `tr(W_g S W_g^T)` with the Schur complement `S = C_gg - C_gk C_kk^-1 C_kg`: what the kept columns
    cannot predict of those that go.
    """
    kept = torch.ones(len(covariance), dtype=torch.bool)
    kept[gone] = False
    if len(gone) == 0:
        return 0.0
    c_gg, c_gk = covariance[gone][:, gone], covariance[gone][:, kept]
    c_kk = covariance[kept][:, kept]
    if len(c_kk):
        ridge = _RIDGE * float(c_kk.diagonal().mean()) + 1e-30
        c_kk = c_kk + ridge * torch.eye(len(c_kk), dtype=c_kk.dtype)
        c_gg = c_gg - c_gk @ torch.linalg.solve(c_kk, c_gk.T)
    w = weight.double()[:, gone]
    return max(0.0, float((w @ c_gg * w).sum()))


def score_layer(
    weights: dict[str, Tensor], statistics: LayerStatistics, spec: TowerSpec
) -> LayerScores:
    """Score a layer's heads and FFN matrices.

    Every loss is in one unit, so that one allocation can weigh them against each other: the variance
    that the change puts into the residual stream, over the stream's own.

    Args:
        weights: the layer's matrices by their path in the block.
        statistics: of the original on the calibration data.
        spec: the tower.
    """
    rows = spec.group * spec.head_dim
    columns = [torch.arange(g * rows, (g + 1) * rows) for g in range(spec.kv_heads)]
    output = weights[spec.o]
    groups = score_heads(output, statistics.heads, columns)
    order = sorted(range(len(groups)), key=lambda g: (groups[g].score, g))
    residual = max(statistics.residual_energy, 1e-30)
    attention = []
    for count in range(len(order)):
        gone = torch.cat([columns[g] for g in order[:count]] or [torch.empty(0, dtype=torch.long)])
        attention.append(compensated_loss(output, statistics.heads, gone) / residual)
    matrices: dict[str, tuple[float, ...]] = {}
    for path in (*spec.ffn_inputs, spec.ffn_output):
        is_output = path == spec.ffn_output
        covariance = statistics.ffn_hidden if is_output else statistics.ffn_input
        energies = whitened_energies(weights[path], covariance)
        # A rank-r input matrix passes on its relative error; the output matrix's error is absolute.
        scale = (
            1.0 if is_output else statistics.ffn_output_energy / max(float(energies.sum()), 1e-30)
        )
        losses = tail(energies) * scale / residual
        matrices[path.rsplit(".", 1)[-1]] = tuple(float(x) for x in losses)
    return LayerScores(tuple(groups), tuple(order), tuple(attention), matrices)
