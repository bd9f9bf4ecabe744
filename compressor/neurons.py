"""Neurons: in which order inputs of a matrix go, and what each cut loses when the rest compensates.

Pure functions of a weight and the covariance of its inputs; heads use them as neurons do.
"""

from __future__ import annotations

import torch
from torch import Tensor

from compressor.algebra import cholesky_, inverse_of, part, ridge_of, tail

_ELIMINATED_SHARE = 0.15  # of the neurons that are left, in one round


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
    inverse = inverse_of(covariance)
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
