"""Scores: how much information heads and matrices carry. Pure functions of statistics and weights.

The paper's abstract (arXiv 2511.19518) names the measures, effective rank and Kolmogorov-Smirnov
distance; how they are joined here is this project's own reading, written out below.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from compressor.algebra import cholesky_, part, ridge_of, square_root
from compressor.calibrate import LayerStatistics
from compressor.families import TowerSpec, leaf

_ELIMINATED_SHARE = 0.15  # of the neurons that are left, in one round


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
    """[r]: loss of a matrix of attention or FFN at rank r, from 0 to full, by its name."""
    neurons: tuple[int, ...]
    """The FFN's neurons from the most informative to the least."""
    width_loss: tuple[float, ...]
    """[w]: loss when only the first w of `neurons` stay and compensate, from 0 to all."""
    gone: int | None = None
    """How many groups go, where that is settled before the allocation (the trained scheme)."""

    def to_json(self) -> dict[str, Any]:
        """Plain JSON."""
        return asdict(self)

    @classmethod
    def of_json(cls, content: Mapping[str, Any]) -> LayerScores:
        """What `to_json` made, after a round trip through a file."""
        return cls(
            groups=tuple(HeadScore(**group) for group in content["groups"]),
            order=tuple(content["order"]),
            attention_loss=tuple(content["attention_loss"]),
            matrix_loss={k: tuple(v) for k, v in content["matrix_loss"].items()},
            neurons=tuple(content["neurons"]),
            width_loss=tuple(content["width_loss"]),
            gone=content.get("gone"),
        )


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


def whitened_energies(weight: Tensor, covariance: Tensor) -> Tensor:
    """Squared singular values of `W C^(1/2)`, descending: the energy that each rank carries.

    They are the eigenvalues of `W C W^T`, or of `C^(1/2) W^T W C^(1/2)` where W has more rows than
    columns: in fp64 this costs a third of the singular values of the product, and what it loses, the
    digits of energies below 1e-16 of the largest, no rank is decided by.
    """
    w = weight.double()
    if w.shape[0] <= w.shape[1]:
        gram = w @ covariance @ w.T
    else:
        root = square_root(covariance)
        gram = root.T @ (w.T @ w) @ root
    return torch.linalg.eigvalsh((gram + gram.T) / 2).clamp_min(0).flip(0)


def tail(energies: Tensor) -> Tensor:
    """[r]: the energy lost by keeping the first r; n + 1 values from all to none."""
    reversed_sums = energies.flip(0).cumsum(0).flip(0)
    return torch.cat([reversed_sums, reversed_sums.new_zeros(1)])


def score_heads(weight: Tensor, covariance: Tensor, columns: list[Tensor]) -> list[HeadScore]:
    """Score each group of an attention layer in the space of its output.

    With the output's directions V, `D = V^T W` and group g, the energy along direction i without g is
    `(D C D^T)_ii - 2 sum_j D_ij (D C)_ij + (D_g C_gg D_g^T)_ii`, j over the columns of g: two products
    in all, not two a group.

    Args:
        weight: (width, h d), the output matrix.
        covariance: (h d, h d) of its input.
        columns: for each group, the columns that its heads fill.
    """
    w = weight.double()
    values, vectors = torch.linalg.eigh(w @ covariance @ w.T)
    values = values.flip(0).clamp_min(0)
    directions = vectors.flip(1).T @ w
    carried = directions @ covariance
    total = (directions * carried).sum(1)
    found: list[tuple[float, float]] = []
    for own in columns:
        covered = part(covariance, own)
        spectrum = torch.linalg.svdvals(w[:, own] @ square_root(covered))
        mine = directions[:, own]
        without = total - 2 * (mine * carried[:, own]).sum(1) + (mine @ covered * mine).sum(1)
        found.append((effective_rank(spectrum), ks_distance(values, without)))
    largest = max(rank for rank, _ in found) or 1.0
    return [HeadScore(rank, ks, ks * rank / largest) for rank, ks in found]


def nested_losses(weight: Tensor, covariance: Tensor, order: Tensor) -> Tensor:
    """[k]: energy that the output loses when only the first k inputs of `order` stay, for every k.

    The kept inputs are fitted to replace the others, so the loss is `tr(W_g S W_g^T)` with the Schur
    complement `S = C_gg - C_gk C_kk^-1 C_kg`: what the kept cannot predict of those that go. With the
    inputs in `order` and `C = L L^T`, S is `L_gg L_gg^T` of the lower right block, and the loss the sum
    of squares of the last columns of `W L`: one factorisation gives all k.

    Args:
        weight: (m, n).
        covariance: (n, n) of the inputs.
        order: (n,) indices, those that stay longest first.
    """
    inputs = part(covariance, order)
    factor = cholesky_(inputs, ridge_of(covariance))
    del inputs
    return tail((weight.double()[:, order] @ factor).square().sum(0))


def neuron_order(weight: Tensor, covariance: Tensor) -> Tensor:
    """(n,) an FFN's neurons, from the one that stays longest to the first that goes.

    Backward elimination: of the neurons that are left, a share with the least
    `|w_j|^2 / (C^-1)_jj` goes, the energy lost with neuron j when all others compensate (OBS); w is
    refitted after each round.

    C is inverted once. When G goes of what is left, with P the inverse so far, that of the rest K is
    `P_KK - P_KG P_GG^-1 P_GK` and the refitted weights `W_K - W_G P_GG^-1 P_GK` (block inversion): a
    third of the work of an inversion a round, and C itself is not needed again.

    Args:
        weight: (m, n), the FFN's output matrix.
        covariance: (n, n) of its input.
    """
    inverse = _inverse(covariance)
    w = (weight.double() @ covariance) @ inverse
    kept = torch.arange(len(covariance), device=w.device)
    gone: list[Tensor] = []
    while len(kept) > 1:
        ranked = (w.square().sum(0) / inverse.diagonal()).argsort(stable=True)
        count = max(1, int(len(kept) * _ELIMINATED_SHARE))
        out, stay = ranked[:count], ranked[count:].sort().values
        gone.append(kept[out])
        moved = torch.linalg.solve(part(inverse, out), inverse[out[:, None], stay])  # (g, k)
        w = w[:, stay].addmm_(w[:, out], moved, alpha=-1)
        inverse = part(inverse, stay).addmm_(inverse[stay[:, None], out], moved, alpha=-1)
        kept = kept[stay]
    return torch.cat([kept, *(each.flip(0) for each in reversed(gone))])


def _inverse(covariance: Tensor) -> Tensor:
    copied = covariance.clone()
    factor = cholesky_(copied, ridge_of(covariance))
    del copied
    return torch.cholesky_inverse(factor)


def score_layer(
    weights: dict[str, Tensor], statistics: LayerStatistics, spec: TowerSpec
) -> LayerScores:
    """Score a layer's heads, FFN matrices and neurons.

    Every loss is in one unit, so that one allocation can weigh them against each other: the variance
    that the change puts into the residual stream, over the stream's own.

    Args:
        weights: the layer's matrices by their path in the block.
        statistics: of the original on the calibration data.
        spec: the tower.
    """
    residual = max(statistics.residual_energy, 1e-30)
    groups: list[HeadScore] = []
    order: list[int] = []
    attention: list[float] = []
    if spec.attention is not None:
        output = weights[spec.attention.o]
        columns = group_columns(spec)
        groups = score_heads(output, statistics.heads, columns)
        order = sorted(range(len(groups)), key=lambda g: (groups[g].score, g))
        attention = attention_losses(output, statistics.heads, columns, order, residual)
    matrices: dict[str, tuple[float, ...]] = {}
    for path in (*spec.projections, *spec.matrices):
        energies = whitened_energies(weights[path], _input_of(path, spec, statistics))
        scale = 1.0  # the error of a matrix that writes the stream is absolute
        if path in spec.reading:
            transfer = float(statistics.transfer[spec.reading.index(path)])
            scale = transfer / max(float(energies.sum()), 1e-30)
        matrices[leaf(path)] = _plain(tail(energies) * scale / residual)
    neurons = neuron_order(weights[spec.ffn_output], statistics.ffn_hidden)
    width = nested_losses(weights[spec.ffn_output], statistics.ffn_hidden, neurons) / residual
    return LayerScores(
        groups=tuple(groups),
        order=tuple(order),
        attention_loss=tuple(attention),
        matrix_loss=matrices,
        neurons=tuple(int(n) for n in neurons),
        # A full width loses nothing; the ridge would say otherwise.
        width_loss=(*_plain(width)[:-1], 0.0),
    )


def _input_of(path: str, spec: TowerSpec, statistics: LayerStatistics) -> Tensor:
    """The covariance of what a matrix reads."""
    if path == spec.ffn_output:
        return statistics.ffn_hidden
    if spec.attention is not None and path == spec.attention.o:
        return statistics.heads
    return statistics.attention_input if path in spec.projections else statistics.ffn_input


def group_columns(spec: TowerSpec) -> list[Tensor]:
    """For each KV group the columns of the attention's output matrix that its heads fill."""
    rows = spec.group * spec.head_dim
    return [torch.arange(g * rows, (g + 1) * rows) for g in range(spec.kv_heads)]


def attention_losses(
    output: Tensor, covariance: Tensor, columns: list[Tensor], order: Sequence[int], residual: float
) -> list[float]:
    """[k]: loss when the first k groups of `order` are gone and the others compensate."""
    inputs = torch.cat([columns[g] for g in reversed(order)])
    losses = nested_losses(output, covariance, inputs) / residual
    size = len(columns[0])
    found = [float(losses[(len(order) - gone) * size]) for gone in range(len(order))]
    return [0.0, *found[1:]]


def _plain(values: Tensor) -> tuple[float, ...]:
    return tuple(float(x) for x in values)
