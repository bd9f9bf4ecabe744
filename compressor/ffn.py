"""Surgery on FFNs: activation-whitened low rank, fitted to the outputs of the original."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from compressor.heads import make_linear
from compressor.loading import FactoredLinear


def low_rank(weight: Tensor, gram: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """B (m, r) and A (r, n), the rank-r matrix that is closest to W on inputs of covariance C.

    Minimises `E|W x - B A x|^2`: SVD of `W U L^(1/2)` with `C = U L U^T`, un-whitened by
    `L^(-1/2) U^T` (SVD-LLM v2). With W from least squares it is reduced-rank regression.

    Args:
        weight: (m, n) float64.
        gram: C (n, n) float64, positive definite.
        rank: r, at most min(m, n).
    """
    values, vectors = torch.linalg.eigh(gram)
    roots = values.clamp_min(float(values.max()) * 1e-12).sqrt()
    left, sigma, right = torch.linalg.svd((weight @ vectors) * roots, full_matrices=False)
    # The singular values are shared between the factors, which keeps both in bf16's comfort.
    share = sigma[:rank].sqrt()
    return left[:, :rank] * share, (share[:, None] * right[:rank] / roots) @ vectors.T


def factor_linear(weight: Tensor, bias: Tensor | None, gram: Tensor, rank: int | None) -> nn.Module:
    """The layer for a fitted matrix: dense where rank is None, else in two factors, float32."""
    if rank is None:
        return make_linear(weight, bias)
    out_factor, in_factor = low_rank(weight, gram, rank)
    layer = FactoredLinear(weight.shape[1], weight.shape[0], rank, bias=bias is not None)
    layer.in_factor = make_linear(in_factor, None)
    layer.out_factor = make_linear(out_factor, bias)
    return layer
