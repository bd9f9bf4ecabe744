"""Positions with massive activations, which must not decide alone what a layer may lose.

In large language models and vision transformers a few positions (the first token, registers) carry
energies ten thousand times those of the rest (Sun et al., 2024, arXiv 2402.17762). The norm in front of
the next layer divides them away again, but in a mean of squares one of them outweighs all others;
beside it, whatever the layer loses elsewhere is nothing. Such a position counts as if it had `MOST`
times the energy that is usual: enough to be kept, too little to drown the rest.
"""

from __future__ import annotations

import torch
from torch import Tensor

MOST = 32.0
"""Times the usual energy."""
USUAL = 0.95
"""The weighted quantile of energies that is usual. Only what is rarer may be massive: text in a picture
that is nearly all background is not."""
_SAMPLE = 1024  # positions are enough for quantiles, which sort


def massive_weights(energies: Tensor, usual: float) -> Tensor:
    """(...,) 1 where a position has up to `MOST` times the usual energy, else what brings it there.

    All count where none is usual. Energies that are not finite stay, for checks to find.
    """
    if not usual > 0:
        return torch.ones_like(energies)
    weights = (MOST * usual / energies.clamp_min(1e-30)).clamp_max(1.0)
    return torch.where(energies.isfinite(), weights, 1.0)


def usual_energy(energies: Tensor, weights: Tensor) -> float:
    """The weighted `USUAL` quantile of (n,) energies; nan where there are none."""
    if not len(energies):
        return float("nan")
    sorted_, order = energies.sort()
    reached = weights[order].double().cumsum(0)
    index = int(torch.searchsorted(reached, USUAL * reached[-1]))
    return float(sorted_[min(index, len(sorted_) - 1)])


class MassiveLimit:
    """Weights of positions of a stream; what is usual is read off the first of them."""

    def __init__(self) -> None:
        self._centre: Tensor | None = None
        self._usual = 0.0
        self._seen: tuple[Tensor, Tensor] | None = None

    def __call__(self, stream: Tensor, weights: Tensor) -> Tensor:
        """(rows,) the weights with massive positions counted less; stream (..., D), weights (rows,)."""
        x = stream.reshape(-1, stream.shape[-1]).float()
        if self._centre is None or self._seen is not None:
            self._look(x, weights)
        assert self._centre is not None
        return weights * massive_weights((x - self._centre).square().sum(1), self._usual)

    def _look(self, x: Tensor, weights: Tensor) -> None:
        """Until there are enough positions: a batch of one example has few that answer."""
        chosen = _sample(weights > 0)
        rows, counts = x[chosen], weights[chosen]
        if self._seen is not None:
            rows, counts = torch.cat([self._seen[0], rows]), torch.cat([self._seen[1], counts])
        # A median, as means are of the very positions that are looked for.
        self._centre = rows.median(0).values
        self._usual = usual_energy((rows - self._centre).square().sum(1), counts)
        self._seen = (rows, counts) if len(rows) < _SAMPLE else None


def _sample(used: Tensor) -> Tensor:
    """Indices of some positions that count, always the same; a stride would follow the patches."""
    found = used.nonzero()[:, 0]
    order = torch.randperm(len(found), generator=torch.Generator().manual_seed(0))
    return found[order[:_SAMPLE].to(found.device)]
