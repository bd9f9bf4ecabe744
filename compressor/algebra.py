"""Linear algebra in float64 by the cheapest exact route, in as little memory as it takes.

A covariance of the 8192 neurons of one layer is half a gigabyte: what can be done in place is.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from compressor.errors import CalibrationError

RIDGE = 1e-6
"""The least that is added to a covariance's diagonal, relative to its mean."""
_ATTEMPTS = 12


def square_root(covariance: Tensor) -> Tensor:
    """R (n, n) with `R R^T = C`: eigenvectors times the roots of the eigenvalues."""
    values, vectors = torch.linalg.eigh(covariance)
    return vectors * values.clamp_min(0).sqrt()


def cholesky_(matrix: Tensor, penalty: Tensor) -> Tensor:
    """The lower factor of `matrix + diag(penalty)`; the sum is left in `matrix`.

    Activations that never vary in some direction give a singular covariance, and sums of float32
    products one that is indefinite by rounding: the penalty is then raised tenfold until it is enough.

    Raises:
        CalibrationError: no penalty is; the matrix is not finite.
    """
    matrix.diagonal().add_(penalty)
    for _ in range(_ATTEMPTS):
        factor, failed = torch.linalg.cholesky_ex(matrix)
        if not int(failed):
            return factor
        matrix.diagonal().add_(9 * penalty)
        penalty = 10 * penalty
    raise CalibrationError(
        "Second moments of activations are not finite or not definite; check the model's weights (NaN "
        "or infinity) and the calibration data."
    )


def ridge_of(covariance: Tensor, ridge: float = RIDGE) -> Tensor:
    """(n,) a penalty relative to the mean variance."""
    scale = ridge * float(covariance.diagonal().mean()) + 1e-30
    return covariance.new_full((len(covariance),), scale)


def inverse_of(covariance: Tensor) -> Tensor:
    """`(C + ridge)^-1` of a covariance, which stays as it is.

    Raises:
        CalibrationError: it is not finite.
    """
    copied = covariance.clone()
    factor = cholesky_(copied, ridge_of(covariance))
    del copied
    return torch.cholesky_inverse(factor)


def part(matrix: Tensor, indices: Tensor) -> Tensor:
    """The rows and columns of a square matrix at `indices`, copied once."""
    return matrix[indices[:, None], indices]


def stacked(weights: Sequence[Tensor], scales: Sequence[float]) -> Tensor:
    """(sum of m, n): matrices that read the same below each other, float64.

    An error's energy counts `scale` times as much in the rows of each, hence the roots.
    """
    return torch.cat([w.double() * s**0.5 for w, s in zip(weights, scales, strict=True)])


def tail(energies: Tensor) -> Tensor:
    """[r]: the energy lost by keeping the first r; n + 1 values from all to none."""
    reversed_sums = energies.flip(0).cumsum(0).flip(0)
    return torch.cat([reversed_sums, reversed_sums.new_zeros(1)])
