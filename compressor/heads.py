"""Surgery on attention: whole KV groups go, and the output matrix is fitted to what is left.

A query head takes its rows of q and its columns of o with it, a KV head its rows of k and v.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from compressor.algebra import cholesky_
from compressor.checkpoint import LayerShape
from compressor.families import TowerSpec
from compressor.families.base import Attention
from compressor.loading import empty_linear, linear_at, set_head_counts, set_module


def head_rows(heads: tuple[int, ...], head_dim: int) -> Tensor:
    """Indices of the rows (of q, k, v) or columns (of o) that heads fill."""
    return torch.tensor([h * head_dim + i for h in heads for i in range(head_dim)])


def prune_heads(block: nn.Module, spec: TowerSpec, attention: Attention, shape: LayerShape) -> None:
    """Cut a block's q, k, v and o to the heads of `shape`, in place; o is not yet compensated."""
    queries = head_rows(shape.heads, spec.head_dim)
    keys = head_rows(shape.kv_heads, spec.head_dim)
    if attention.fused is not None:
        third = spec.heads * spec.head_dim
        rows = {attention.fused: torch.cat([queries, keys + third, keys + 2 * third])}
    else:
        rows = {attention.q: queries, attention.k: keys, attention.v: keys}
    for path, kept in rows.items():
        keep_rows(block, path, kept)
    keep_columns(block, attention.o, queries)
    set_head_counts(block, attention, len(shape.heads))


def keep_rows(block: nn.Module, path: str, rows: Tensor) -> None:
    """Cut a linear to some of its outputs, in place."""
    old = linear_at(block, path)
    rows = rows.to(old.weight.device)
    bias = None if old.bias is None else old.bias.data[rows]
    set_module(block, path, make_linear(old.weight.data[rows], bias))


def keep_columns(block: nn.Module, path: str, columns: Tensor) -> None:
    """Cut a linear to some of its inputs, in place."""
    old = linear_at(block, path)
    bias = None if old.bias is None else old.bias.data
    set_module(block, path, make_linear(old.weight.data[:, columns.to(old.weight.device)], bias))


def ridge_factor(gram: Tensor, ridge: float, *, constant: bool) -> Tensor:
    """The Cholesky factor of `C + lambda I`: half of what a general solver takes.

    Args:
        gram: C, (n, n), positive semidefinite; with `constant` the last input is the constant 1, and
            its column of W the bias, which is not penalised.
        ridge: lambda, relative to the mean of the gram's diagonal.
        constant: see `gram`.
    """
    n = len(gram) - 1 if constant else len(gram)
    penalty = torch.zeros(len(gram), dtype=gram.dtype, device=gram.device)
    penalty[:n] = ridge * float(gram.diagonal()[:n].mean()) + 1e-30
    return cholesky_(gram.clone(), penalty)


def fit_linear(gram: Tensor, cross: Tensor, prior: Tensor, factor: Tensor) -> Tensor:
    """Least squares: the W that minimises `E|t - W x|^2 + lambda |W - W_0|^2`.

    `W = W_0 + (E[t x^T] - W_0 C) (C + lambda I)^-1` with `C = E[x x^T]`. With `t = W_0 x_0` of the
    original this is the end point of OBS for removed input columns; the ridge pulls towards the
    original's weights, so directions that the calibration data never visit stay as they were.

    Args:
        gram: C, (n, n).
        cross: `E[t x^T]`, (m, n).
        prior: W_0, (m, n).
        factor: of the gram with its ridge, from `ridge_factor`; linears with one input share it.
    """
    return prior + torch.cholesky_solve((cross - prior @ gram).T, factor).T


def make_linear(weight: Tensor, bias: Tensor | None) -> nn.Linear:
    """A linear layer with these values, float32."""
    linear = empty_linear(weight.shape[1], weight.shape[0], bias=bias is not None)
    linear.weight = nn.Parameter(weight.float().contiguous(), requires_grad=False)
    if bias is not None:
        linear.bias = nn.Parameter(bias.float().contiguous(), requires_grad=False)
    return linear
