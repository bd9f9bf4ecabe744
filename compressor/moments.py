"""Second moments of activations, streamed: products of a batch in float32, sums in float64.

A covariance of 8192 neurons is half a gigabyte, so there is one of it and no second: a batch is added
block by block, and only above the diagonal, which is also half of the work.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

_BLOCK = 1024


class Moments:
    """Weighted cross moments of a target and an input: `E[t x^T]` and `E[x x^T]`.

    The input may be extended by a constant 1, so that least squares fits a bias too.
    """

    def __init__(self, *, constant: bool = False, inputs_of: Moments | None = None) -> None:
        """`inputs_of`: others, given the same inputs and weights, whose `gram` is this one's."""
        self.constant = constant
        self._shared = inputs_of
        self.cross = torch.zeros(0)
        """(m, n) float64."""
        self._upper = torch.zeros(0)

    def add(self, inputs: Tensor, weights: Tensor, target: Tensor | None = None) -> None:
        """Add a batch: inputs (..., n), weights (...), target (..., m)."""
        w = weights.reshape(-1, 1).float()
        used = w[:, 0] > 0
        w = w[used]
        x = inputs.reshape(-1, inputs.shape[-1])[used].float()
        if self.constant:
            x = torch.cat([x, torch.ones(len(x), 1, device=x.device)], dim=1)
        weighted = x * w
        if not self._upper.numel() and self._shared is None:
            size = x.shape[1]
            self._upper = torch.zeros(size, size, dtype=torch.float64, device=x.device)
        for rows in _blocks(x.shape[1]) if self._shared is None else ():
            self._upper[rows, rows.start :] += x[:, rows].T @ weighted[:, rows.start :]
        if target is not None:
            cross = (target.reshape(-1, target.shape[-1])[used].float().T @ weighted).double()
            self.cross = self.cross.add_(cross) if self.cross.numel() else cross

    @property
    def gram(self) -> Tensor:
        """(n, n) float64, symmetric; the moments' own, not a copy."""
        if self._shared is not None:
            return self._shared.gram
        gram = self._upper
        for rows in _blocks(len(gram)):
            own = gram[rows, rows]
            gram[rows, rows] = (own + own.T) / 2
            gram[rows.stop :, rows] = gram[rows, rows.stop :].T
        return gram

    def take_gram(self) -> Tensor:
        """`gram`, which is then no more held here."""
        gram, self._upper = self.gram, torch.zeros(0)
        return gram


def _blocks(size: int) -> Iterator[slice]:
    for start in range(0, size, _BLOCK):
        yield slice(start, min(size, start + _BLOCK))


class Energy:
    """Weighted variance of a vector, summed over its components, and its mean."""

    def __init__(self) -> None:
        self._sum = torch.zeros(0)
        self._square = 0.0
        self._weight = 0.0

    def add(self, values: Tensor, weights: Tensor) -> None:
        """Add a batch: values (..., n), weights (...)."""
        x = values.reshape(-1, values.shape[-1]).double()
        w = weights.reshape(-1, 1).double()
        added = (x * w).sum(0)
        self._sum = self._sum + added if self._sum.numel() else added
        self._square += float((x * x * w).sum())
        self._weight += float(w.sum())

    @property
    def second_moment(self) -> float:
        """`E|x|^2`."""
        return self._square / self._weight

    @property
    def variance(self) -> float:
        """`E|x - E x|^2`, exact to 1e-15 of the second moment: the weights are divided by their sum."""
        mean = self._sum / self._weight
        return self.second_moment - float(mean @ mean)
