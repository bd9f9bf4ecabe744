from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from compressor.families import TowerSpec
from compressor.families.base import Attention
from compressor.gates import (
    GatedLayer,
    alignment,
    hard_concrete,
    kept_groups,
    open_probability,
    order_of,
    spectral_energies,
)
from compressor.scoring import ks_distance

LANGUAGE = TowerSpec(
    name="language", layers="layers", used_layers=5, heads=6, kv_heads=6, head_dim=2, width=12,
    ffn_width=8, attention=Attention("q", "k", "v", "o"), ffn_norm="norm",
    ffn_inputs=("up",), ffn_output="down",
)  # fmt: skip


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


@given(
    st.lists(st.lists(st.floats(-5, 5), min_size=2, max_size=6), min_size=1, max_size=5),
    st.floats(0, 1),
)
def test_the_groups_that_stay_fit_the_budget_and_each_layer_keeps_one(
    drawn: list[list[float]], share: float
) -> None:
    alphas = [torch.tensor(values) for values in drawn]
    layers = [
        GatedLayer(LANGUAGE, index, torch.zeros(len(alpha)), torch.zeros(0), cost=1.0)
        for index, alpha in enumerate(alphas)
    ]
    budget = share * sum(len(alpha) for alpha in alphas)

    kept = kept_groups(layers, alphas, budget)

    assert all(groups == tuple(sorted(set(groups))) and groups for groups in kept)
    assert sum(map(len, kept)) <= max(budget, len(alphas))
    for alpha, groups in zip(alphas, kept, strict=True):
        gone = set(range(len(alpha))) - set(groups)
        assert set(order_of(alpha)[: len(gone)]) == gone or len(set(alpha.tolist())) < len(alpha)
