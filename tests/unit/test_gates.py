from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from compressor.gates import alignment, hard_concrete, open_probability, spectral_energies
from compressor.scoring import ks_distance


@given(st.floats(-8, 8), st.floats(1e-4, 1 - 1e-4))
def test_a_gate_is_between_shut_and_open(alpha: float, noise: float) -> None:
    z = hard_concrete(torch.tensor([alpha]), torch.tensor([noise]))
    assert 0 <= float(z) <= 1


def test_a_gate_opens_as_often_as_its_probability_says() -> None:
    uniform = torch.rand(200_000, generator=torch.Generator().manual_seed(0))
    for alpha in (-2.0, 0.0, 2.0):
        gates = hard_concrete(torch.full_like(uniform, alpha), uniform)
        expected = float(open_probability(torch.tensor(alpha)))
        assert float((gates > 0).float().mean()) == pytest.approx(expected, abs=0.01)


def test_the_energies_of_all_pairs_are_those_of_the_whole_output() -> None:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(64, 6, generator=generator).double()
    covariance, weight = x.T @ x / 64, torch.randn(5, 6, generator=generator)
    columns = [torch.arange(0, 2), torch.arange(2, 4), torch.arange(4, 6)]

    energies = spectral_energies(weight, covariance, columns)

    w = weight.double()
    expected = torch.linalg.eigvalsh(w @ covariance @ w.T).flip(0)
    assert torch.allclose(energies.sum((0, 1)).double(), expected, atol=1e-4)


def test_the_alignment_is_the_ks_distance_that_scoring_knows() -> None:
    """Gates of 0 and 1 must give what `scoring.ks_distance` gives for the same heads removed."""
    generator = torch.Generator().manual_seed(2)
    x = torch.randn(64, 6, generator=generator).double()
    covariance, weight = x.T @ x / 64, torch.randn(5, 6, generator=generator)
    columns = [torch.arange(0, 3), torch.arange(3, 6)]
    energies = spectral_energies(weight, covariance, columns)
    only_first = energies[0, 0]

    assert float(alignment(energies, torch.ones(2))) == 0
    assert float(alignment(energies, torch.tensor([1.0, 0.0]))) == pytest.approx(
        ks_distance(energies.sum((0, 1)), only_first), abs=1e-6
    )
