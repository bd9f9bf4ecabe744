from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from compressor.algebra import stacked, tail
from compressor.ffn import factor_linear, joint_low_rank, low_rank
from compressor.loading import FactoredLinear
from compressor.scoring import whitened_energies


def problem(seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(6, 9, generator=generator).double()
    x = torch.randn(50, 9, generator=generator).double() * torch.logspace(0, -2, 9).double()
    return weight, x.T @ x / 50


def test_full_rank_is_exact() -> None:
    weight, gram = problem()
    out_factor, in_factor = low_rank(weight, gram, 6)
    assert torch.allclose(out_factor @ in_factor, weight, atol=1e-8)


def test_a_tall_matrix_takes_the_other_route_to_the_same_optimum() -> None:
    """More outputs than inputs: the smaller side is that of the inputs."""
    generator = torch.Generator().manual_seed(3)
    weight = torch.randn(11, 5, generator=generator).double()
    x = torch.randn(60, 5, generator=generator).double() * torch.logspace(0, -2, 5).double()
    gram = x.T @ x / 60
    energies = whitened_energies(weight, gram)
    for rank in range(1, 6):
        out_factor, in_factor = low_rank(weight, gram, rank)
        error = weight - out_factor @ in_factor
        lost = float((error @ gram @ error.T).trace())
        assert lost == pytest.approx(float(tail(energies)[rank]), rel=1e-6, abs=1e-12)
        assert torch.allclose(out_factor.norm(dim=0), in_factor.norm(dim=1))
    assert torch.allclose(out_factor @ in_factor, weight, atol=1e-8)


@pytest.mark.parametrize("shape", [(4, 9), (9, 4)])
def test_inputs_that_never_vary_break_nothing(shape: tuple[int, int]) -> None:
    weight = torch.randn(shape, generator=torch.Generator().manual_seed(4)).double()
    gram = torch.zeros(shape[1], shape[1]).double()
    gram[0, 0] = 1.0
    out_factor, in_factor = low_rank(weight, gram, 2)
    assert torch.allclose((out_factor @ in_factor)[:, 0], weight[:, 0], atol=1e-6)


@given(st.integers(0, 500), st.integers(1, 6))
def test_the_error_is_the_tail_of_the_whitened_spectrum(seed: int, rank: int) -> None:
    weight, gram = problem(seed)
    out_factor, in_factor = low_rank(weight, gram, rank)
    error = weight - out_factor @ in_factor

    measured = float((error @ gram @ error.T).trace())

    assert measured == pytest.approx(
        float(tail(whitened_energies(weight, gram))[rank]), rel=1e-4, abs=1e-9
    )


@given(st.integers(0, 500), st.integers(1, 9), st.floats(1e-6, 1e6))
def test_matrices_that_share_an_input_factor_lose_the_tail_of_their_joint_spectrum(
    seed: int, rank: int, scale: float
) -> None:
    first, gram = problem(seed)
    second, _ = problem(seed + 1000)
    weights, scales = [first, second[:4]], [1.0, scale]

    out_factors, in_factor = joint_low_rank(weights, scales, gram, rank)

    lost = 0.0
    for weight, own, out_factor in zip(weights, scales, out_factors, strict=True):
        error = weight - out_factor @ in_factor
        lost += own * float((error @ gram @ error.T).trace())
    energies = whitened_energies(stacked(weights, scales), gram)
    assert lost == pytest.approx(float(tail(energies)[rank]), rel=1e-4, abs=1e-9 * (1 + scale))


def test_one_input_factor_for_matrices_alike_is_as_good_at_half_the_rank_in_sum() -> None:
    """Two matrices that read the same directions need them once."""
    weight, gram = problem()
    alike = torch.randn(6, 6, generator=torch.Generator().manual_seed(9)).double() @ weight
    out_factors, in_factor = joint_low_rank([weight, alike], [1.0, 1.0], gram, 6)
    assert torch.allclose(out_factors[0] @ in_factor, weight, atol=1e-6)
    assert torch.allclose(out_factors[1] @ in_factor, alike, atol=1e-6)


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
