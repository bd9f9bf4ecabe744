from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from compressor.ffn import factor_linear, low_rank
from compressor.loading import FactoredLinear
from compressor.scoring import tail, whitened_energies


def problem(seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(6, 9, generator=generator).double()
    x = torch.randn(50, 9, generator=generator).double() * torch.logspace(0, -2, 9).double()
    return weight, x.T @ x / 50


def test_full_rank_is_exact() -> None:
    weight, gram = problem()
    out_factor, in_factor = low_rank(weight, gram, 6)
    assert torch.allclose(out_factor @ in_factor, weight, atol=1e-8)


@given(st.integers(0, 500), st.integers(1, 6))
def test_the_error_is_the_tail_of_the_whitened_spectrum(seed: int, rank: int) -> None:
    weight, gram = problem(seed)
    out_factor, in_factor = low_rank(weight, gram, rank)
    error = weight - out_factor @ in_factor

    measured = float((error @ gram @ error.T).trace())

    assert measured == pytest.approx(
        float(tail(whitened_energies(weight, gram))[rank]), rel=1e-4, abs=1e-9
    )


def test_whitening_beats_plain_svd_on_the_data() -> None:
    weight, gram = problem()
    out_factor, in_factor = low_rank(weight, gram, 3)
    left, values, right = torch.linalg.svd(weight, full_matrices=False)
    plain = (left[:, :3] * values[:3]) @ right[:3]

    def loss(found: Tensor) -> float:
        return float(((weight - found) @ gram @ (weight - found).T).trace())

    assert loss(out_factor @ in_factor) < loss(plain)


def test_a_rank_gives_two_factors_and_none_a_dense_layer() -> None:
    weight, gram = problem()
    bias = torch.ones(6)

    factored, dense = (factor_linear(weight, bias, gram, rank) for rank in (2, None))

    assert isinstance(factored, FactoredLinear)
    assert isinstance(dense, nn.Linear)
    assert sum(p.numel() for p in factored.parameters()) == 2 * (6 + 9) + 6
    assert torch.equal(factored(torch.zeros(1, 9)), bias[None])
