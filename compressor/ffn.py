"""Surgery on matrices: activation-whitened low rank, fitted to the outputs of the original."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from compressor.algebra import stacked
from compressor.heads import make_linear
from compressor.loading import FactoredLinear


def low_rank(weight: Tensor, gram: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """B (m, r) and A (r, n), the rank-r matrix that is closest to W on inputs of covariance C.

    Minimises `E|W x - B A x|^2`: the truncated SVD of `W C^(1/2)`, un-whitened (SVD-LLM v2). With W
    from least squares it is reduced-rank regression. Two routes, both exact, neither a full SVD; their
    eigendecompositions are of the *smaller* side only:

    - m <= n: `W C W^T = U S^2 U^T`, then `B A = U_r U_r^T W`. The truncation is a projection of the
      outputs, so nothing needs to be whitened and C may be singular.
    - m > n: `C = V L V^T`, `K = W V L^(1/2)`, `K^T K = Q S^2 Q^T`, then
      `B A = K Q_r Q_r^T L^(-1/2) V^T`.

    Squaring halves the digits: in float64 directions with less than 1e-16 of the largest energy mix
    with each other. They are the last to be kept, and what they carry no output shows; Q and U are
    orthonormal all the same, so at full rank the product is W.

    Args:
        weight: (m, n) float64.
        gram: C (n, n) float64, positive semi-definite.
        rank: r, at most min(m, n).
    """
    if weight.shape[0] <= weight.shape[1]:
        vectors = _leading(weight @ gram @ weight.T, rank)
        return _balanced(vectors, vectors.T @ weight)
    values, axes = torch.linalg.eigh(gram)
    roots = values.clamp_min(float(values.max()) * 1e-12).sqrt()
    whitened = (weight @ axes) * roots
    vectors = _leading(whitened.T @ whitened, rank)
    return _balanced(whitened @ vectors, (vectors.T / roots) @ axes.T)


def joint_low_rank(
    weights: Sequence[Tensor], scales: Sequence[float], gram: Tensor, rank: int
) -> tuple[list[Tensor], Tensor]:
    """B_i (m_i, r) and one A (r, n) for several matrices W_i that read the same inputs.

    Minimises `sum_i s_i E|W_i x - B_i A x|^2`: `low_rank` of the matrices below each other.

    Args:
        weights: W_i, (m_i, n) float64.
        scales: s_i, above zero.
        gram: C (n, n) float64, positive semi-definite.
        rank: r, at most n and the sum of m_i.
    """
    sizes = [len(weight) for weight in weights]
    scaled, in_factor = low_rank(stacked(weights, scales), gram, rank)
    out_factor = stacked(scaled.split(sizes), [1 / scale for scale in scales])
    out_factor, in_factor = _balanced(out_factor, in_factor)
    return list(out_factor.split(sizes)), in_factor


def _leading(gram: Tensor, rank: int) -> Tensor:
    """The eigenvectors of the `rank` largest eigenvalues, as columns."""
    return torch.linalg.eigh((gram + gram.T) / 2).eigenvectors.flip(1)[:, :rank]


def _balanced(out_factor: Tensor, in_factor: Tensor) -> tuple[Tensor, Tensor]:
    """The same product, with columns of B as large as rows of A: both in bf16's comfort."""
    sizes = (in_factor.norm(dim=1), out_factor.norm(dim=0))
    scale = (sizes[0].clamp_min(1e-30) / sizes[1].clamp_min(1e-30)).sqrt()
    return out_factor * scale, in_factor / scale[:, None]


def factor_linear(weight: Tensor, bias: Tensor | None, gram: Tensor, rank: int | None) -> nn.Module:
    """The layer for a fitted matrix: dense where rank is None, else in two factors, float32."""
    if rank is None:
        return make_linear(weight, bias)
    out_factor, in_factor = low_rank(weight, gram, rank)
    layer = FactoredLinear(weight.shape[1], weight.shape[0], rank, bias=bias is not None)
    layer.in_factor = make_linear(in_factor, None)
    layer.out_factor = make_linear(out_factor, bias)
    return layer
