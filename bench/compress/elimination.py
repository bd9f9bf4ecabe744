"""Backward elimination of heads by what only they write: an ablation of our own scores. Pure.

It loses up to a third less of the attention's output than our order does, and more accuracy
(docs/log.md): how far an output is from the original's is not what matters of it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from compressor.algebra import cholesky_, inverse_of, part, ridge_of
from compressor.scoring import HeadScore, effective_rank

_ROUNDING = 1e-12
Criterion = Callable[[HeadScore], float]
"""What heads are ordered by: the lowest goes."""


def rank_heads(
    weight: Tensor,
    covariance: Tensor,
    columns: Sequence[Tensor],
    criterion: Criterion = lambda head: head.score,
) -> tuple[list[HeadScore], tuple[int, ...]]:
    """Score each group of an attention layer, and order them by backward elimination.

    What a group g writes and the others K cannot make up for is `A = W_g S^(1/2)`, with the Schur
    complement `S = C_gg - C_gK C_KK^-1 C_Kg`; its effective rank is that of A's singular values. With
    the others compensating, energy is lost along every direction of the output and moves along none, so
    the KS distance is the share of it that is lost, `|A|^2 / tr(W C W^T)`: none for a group that writes
    what others write too. The group with the lowest criterion goes, the output matrix is refitted to
    those that are left (OBS), and they are scored anew: of two copies, one goes and the other stays.

    Args:
        weight: (width, h d), the output matrix.
        covariance: (h d, h d) of its input.
        columns: for each group, the columns that its heads fill.
        criterion: what the order is by.

    Returns:
        The scores while all are there, and the groups from the first that goes to the last.

    Raises:
        CalibrationError: the covariance is not finite.
    """
    w = weight.double()
    total = max(float(((w @ covariance) * w).sum()), 1e-300)
    inverse = inverse_of(covariance)
    w = (w @ covariance) @ inverse
    place = dict(enumerate(columns))
    first, order = None, list[int]()
    while len(place) > 1:
        scores = _scored(w, inverse, place, total)
        first = first or scores
        least = min(place, key=lambda g: (criterion(scores[g]), g))
        order.append(least)
        w, inverse, place = _without(w, inverse, place, least)
    first = first or _scored(w, inverse, place, total)
    return [first[g] for g in range(len(columns))], (*order, *place)


def _scored(
    w: Tensor, inverse: Tensor, place: Mapping[int, Tensor], total: float
) -> dict[int, HeadScore]:
    found: dict[int, tuple[float, float]] = {}
    for group, own in place.items():
        # S is the inverse of the inverse's block L L^T: W_g S W_g^T = (W_g L^-T) (W_g L^-T)^T.
        block = part(inverse, own)
        factor = cholesky_(block, ridge_of(block, _ROUNDING))
        unique = torch.linalg.solve_triangular(factor, w[:, own].T, upper=False)
        energies = torch.linalg.eigvalsh(unique @ unique.T).clamp_min(0)
        found[group] = (effective_rank(energies.sqrt()), float(energies.sum()) / total)
    largest = max(rank for rank, _ in found.values()) or 1.0
    return {g: HeadScore(rank, ks, ks * rank / largest) for g, (rank, ks) in found.items()}


def _without(
    w: Tensor, inverse: Tensor, place: Mapping[int, Tensor], group: int
) -> tuple[Tensor, Tensor, dict[int, Tensor]]:
    """The refitted matrix, the inverse covariance and the columns of those that stay."""
    out = place[group]
    stays = torch.ones(len(inverse), dtype=torch.bool, device=w.device)
    stays[out] = False
    stay = stays.nonzero().flatten()
    moved = torch.linalg.solve(part(inverse, out), inverse[out[:, None], stay])  # (g, k)
    position = stays.cumsum(0) - 1
    return (
        w[:, stay] - w[:, out] @ moved,
        part(inverse, stay) - inverse[stay[:, None], out] @ moved,
        {g: position[own] for g, own in place.items() if g != group},
    )
