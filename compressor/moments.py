"""Second moments of activations, streamed: products of a batch in float32, sums in float64."""

from __future__ import annotations

import torch
from torch import Tensor


class Moments:
    """Weighted cross moments of a target and an input: `E[t x^T]` and `E[x x^T]`.

    The input may be extended by a constant 1, so that least squares fits a bias too.
    """

    def __init__(self, *, constant: bool = False) -> None:
        self.constant = constant
        self.gram = torch.zeros(0)
        self.cross = torch.zeros(0)

    def add(self, inputs: Tensor, weights: Tensor, target: Tensor | None = None) -> None:
        """Add a batch: inputs (..., n), weights (...), target (..., m)."""
        w = weights.reshape(-1, 1).float()
        used = w[:, 0] > 0
        w = w[used]
        x = inputs.reshape(-1, inputs.shape[-1])[used].float()
        if self.constant:
            x = torch.cat([x, torch.ones(len(x), 1, device=x.device)], dim=1)
        weighted = x * w
        gram = (x.T @ weighted).double()
        self.gram = (
            self.gram.add_((gram + gram.T) / 2) if self.gram.numel() else (gram + gram.T) / 2
        )
        if target is not None:
            cross = (target.reshape(-1, target.shape[-1])[used].float().T @ weighted).double()
            self.cross = self.cross.add_(cross) if self.cross.numel() else cross


class Energy:
    """Weighted variance of a vector, summed over its components, and its mean."""

    def __init__(self) -> None:
        self.mean = torch.zeros(0)
        self.square = 0.0

    def add(self, values: Tensor, weights: Tensor) -> None:
        """Add a batch: values (..., n), weights (...)."""
        x = values.reshape(-1, values.shape[-1]).double()
        w = weights.reshape(-1, 1).double()
        mean = (x * w).sum(0)
        self.mean = self.mean + mean if self.mean.numel() else mean
        self.square += float((x * x * w).sum())

    @property
    def variance(self) -> float:
        """`E|x - E x|^2`."""
        return self.square - float(self.mean @ self.mean)
