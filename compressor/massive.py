"""Positions with massive activations, which must not decide alone what a layer may lose.

In large language models and vision transformers a few positions (the first token, registers) carry
energies ten thousand times those of the rest (Sun et al., 2024, arXiv 2402.17762). The norm in front of
the next layer divides them away again, but in a mean of squares one of them outweighs all others;
beside it, whatever the layer loses elsewhere is nothing. Such a position counts as if it had `MOST`
times the typical energy: enough to be kept, too little to drown the rest.
"""

from __future__ import annotations

import torch
from torch import Tensor

MOST = 128.0
"""Times the median energy: the widest spread in the bundled model, behind its first layer, is 114."""
_SAMPLE = 1024  # positions are enough for a median, which sorts


def massive_weights(energies: Tensor, typical: float) -> Tensor:
    """(...,) 1 where a position has up to `MOST` times the typical energy, else what brings it there.

    Where half of the positions have none at all, nothing is typical, and all count.
    """
    if not typical > 0:
        return torch.ones_like(energies)
    return (MOST * typical / energies.clamp_min(1e-30)).clamp_max(1.0)


class MassiveLimit:
    """Weights of positions of a stream; what is typical is read off the first batch."""

    def __init__(self) -> None:
        self._centre: Tensor | None = None
        self._typical = 0.0

    def __call__(self, stream: Tensor, weights: Tensor) -> Tensor:
        """(rows,) the weights with massive positions counted less; stream (..., D), weights (rows,)."""
        x = stream.reshape(-1, stream.shape[-1]).float()
        if self._centre is None:
            used = x[weights > 0]
            used = used[:: max(1, len(used) // _SAMPLE)]
            # Medians, as means are of the very positions that are looked for.
            self._centre = used.median(0).values
            self._typical = float((used - self._centre).square().sum(1).median())
        return weights * massive_weights((x - self._centre).square().sum(1), self._typical)
