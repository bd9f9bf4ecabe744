from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from compressor.heads import fit_linear, head_rows, ridge_factor


def test_head_rows_are_whole_heads() -> None:
    assert head_rows((0, 2), 3).tolist() == [0, 1, 2, 6, 7, 8]


@given(st.integers(0, 1000), st.booleans())
def test_least_squares_finds_the_matrix_that_made_the_data(seed: int, constant: bool) -> None:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(100, 5, generator=generator).double()
    if constant:
        x[:, -1] = 1
    true = torch.randn(3, 5, generator=generator).double()
    gram, cross = x.T @ x / 100, true @ x.T @ x / 100

    factor = ridge_factor(gram, 1e-9, constant=constant)
    found = fit_linear(gram, cross, torch.zeros(3, 5).double(), factor)

    assert torch.allclose(found, true, atol=1e-6)


def test_directions_without_data_stay_as_they_were() -> None:
    gram = torch.diag(torch.tensor([1.0, 0.0])).double()
    prior = torch.tensor([[5.0, 7.0]]).double()
    cross = torch.tensor([[2.0, 0.0]]).double()

    found = fit_linear(gram, cross, prior, ridge_factor(gram, 1e-6, constant=False))

    assert torch.allclose(found, torch.tensor([[2.0, 7.0]]).double(), atol=1e-4)
