"""Scores: how much information heads and matrices carry. Pure functions of statistics and weights.

The paper's abstract (arXiv 2511.19518) names the measures, effective rank and Kolmogorov-Smirnov
distance; how they are joined here is this project's own reading, written out below.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor

from compressor.algebra import part, square_root, stacked, tail
from compressor.calibrate import LayerStatistics
from compressor.families import TowerSpec, leaf
from compressor.neurons import nested_losses, neuron_order

_LEAST_SCALE = 1e-6  # over the largest of matrices that are factored as one


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
    scales: dict[str, tuple[float, ...]] = field(default_factory=dict)
    """What an error's energy counts in each of the matrices that are factored as one, by its name."""
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
            scales={k: tuple(v) for k, v in content["scales"].items()},
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
    matrices, scales = _matrix_losses(weights, statistics, spec)
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
        scales=scales,
    )


def _matrix_losses(
    weights: dict[str, Tensor], statistics: LayerStatistics, spec: TowerSpec
) -> tuple[dict[str, tuple[float, ...]], dict[str, tuple[float, ...]]]:
    """`matrix_loss` and `scales` of a layer."""
    residual = max(statistics.residual_energy, 1e-30)
    matrices: dict[str, tuple[float, ...]] = {}
    scales: dict[str, tuple[float, ...]] = {}
    for name, paths in spec.joints.items():
        found = [_scale_of(path, weights[path], spec, statistics) for path in paths]
        # None may vanish: output factors are divided by these.
        scales[name] = tuple(max(scale, _LEAST_SCALE * max(found), 1e-30) for scale in found)
        joint = stacked([weights[path] for path in paths], scales[name])
        energies = whitened_energies(joint, _input_of(paths[0], spec, statistics))
        matrices[name] = _plain(tail(energies) / residual)
    alone = {leaf(path): path for path in (*spec.projections, *spec.matrices)}
    for path in (alone[name] for name in (*spec.factored, *spec.ffn_names) if name in alone):
        energies = whitened_energies(weights[path], _input_of(path, spec, statistics))
        scale = _scale_of(path, weights[path], spec, statistics)
        matrices[leaf(path)] = _plain(tail(energies) * scale / residual)
    return matrices, scales


def _scale_of(path: str, weight: Tensor, spec: TowerSpec, statistics: LayerStatistics) -> float:
    """The share of an error's energy at a matrix's output that reaches the stream."""
    if path not in spec.reading:
        return 1.0  # the error of a matrix that writes the stream is absolute
    w = weight.double()
    energy = float(((w @ _input_of(path, spec, statistics)) * w).sum())
    return float(statistics.transfer[spec.reading.index(path)]) / max(energy, 1e-30)


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
