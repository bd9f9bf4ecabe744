from __future__ import annotations

import pytest
import torch

from compressor.algebra import cholesky_, part, ridge_of, square_root
from compressor.errors import CalibrationError


def test_a_singular_covariance_has_a_factor_all_the_same() -> None:
    x = torch.randn(3, 8, generator=torch.Generator().manual_seed(0)).double()
    covariance = x.T @ x

    shifted = covariance.clone()
    factor = cholesky_(shifted, ridge_of(covariance))

    assert torch.allclose(factor @ factor.T, shifted)
    assert float((shifted - covariance).abs().max()) < 1e-4 * float(covariance.abs().max())


def test_an_indefinite_matrix_gets_the_penalty_that_it_needs() -> None:
    matrix = torch.diag(torch.tensor([1.0, -1e-4, 1.0])).double()
    factor = cholesky_(matrix, matrix.new_full((3,), 1e-6))
    assert bool(torch.isfinite(factor).all())
    assert 1e-4 < float(matrix[1, 1]) + 1e-4 < 1e-2


def test_what_is_not_finite_ends_in_one_sentence_and_not_in_a_loop() -> None:
    matrix = torch.full((3, 3), torch.nan).double()
    with pytest.raises(CalibrationError, match="not finite or not definite"):
        cholesky_(matrix, matrix.new_full((3,), 1e-6))


def test_a_square_root_squares_to_its_matrix() -> None:
    x = torch.randn(9, 4, generator=torch.Generator().manual_seed(1)).double()
    root = square_root(x.T @ x)
    assert torch.allclose(root @ root.T, x.T @ x)


def test_a_part_has_rows_and_columns_in_the_asked_order() -> None:
    matrix = torch.arange(9.0).reshape(3, 3)
    assert part(matrix, torch.tensor([2, 0])).tolist() == [[8.0, 6.0], [2.0, 0.0]]
