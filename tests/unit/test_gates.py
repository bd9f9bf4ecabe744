from __future__ import annotations

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from torch import Tensor

from compressor import gates
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


def sampled(alpha: float) -> Tensor:
    """Gates of an even grid of noise: its means are the distribution's, without a draw's error."""
    uniform = (torch.arange(20_000) + 0.5) / 20_000
    return hard_concrete(torch.full_like(uniform, alpha), uniform)


@given(st.floats(-6, 6))
def test_a_gate_opens_as_often_as_its_probability_says(alpha: float) -> None:
    expected = float(open_probability(torch.tensor(alpha)))
    assert float((sampled(alpha) > 0).float().mean()) == pytest.approx(expected, abs=2e-4)


@given(st.floats(-6, 6))
def test_a_gate_is_wholly_open_as_often_as_its_mirror_image_is_shut(alpha: float) -> None:
    """The stretch from -0.1 to 1.1 reaches as far below 0 as above 1, or gates would lean one way."""
    own, mirrored = sampled(alpha), sampled(-alpha)
    assert torch.allclose(own, 1 - mirrored.flip(0), atol=1e-4)
    assert float((own == 1).float().mean()) == pytest.approx(
        1 - float(open_probability(torch.tensor(-alpha))), abs=2e-4
    )


@given(st.floats(-6, 6))
def test_the_mean_gate_is_that_of_the_stretched_concrete_distribution(alpha: float) -> None:
    """E[z] is the integral over t in (0, 1) of P(z > t) = sigmoid(ln a - b logit((t + 0.1) / 1.2))."""
    t = (torch.arange(2000) + 0.5) / 2000
    exceeded = torch.sigmoid(alpha - 2 / 3 * torch.logit((t + 0.1) / 1.2))
    assert float(sampled(alpha).mean()) == pytest.approx(float(exceeded.mean()), abs=2e-4)


@given(st.floats(-6, 6), st.floats(0.1, 3))
def test_a_larger_parameter_opens_every_gate_further(alpha: float, more: float) -> None:
    less, wider = sampled(alpha), sampled(alpha + more)
    assert (wider >= less).all()
    assert float(wider.mean()) > float(less.mean())


def test_gates_begin_open_almost_always_and_most_of_them_wholly() -> None:
    """Or the first steps would train on a model that nobody has."""
    first = sampled(gates._INITIAL)
    assert float((first > 0).float().mean()) > 0.98
    assert float((first == 1).float().mean()) > 0.6


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


@example([[0.0, 0.0]], 1 - 2**-53)
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
    # What is above the budget by rounding only fits: a share that is not exact may not cost a group.
    assert sum(map(len, kept)) <= max(budget * (1 + 1e-9), len(alphas))
    for alpha, groups in zip(alphas, kept, strict=True):
        gone = set(range(len(alpha))) - set(groups)
        assert set(order_of(alpha)[: len(gone)]) == gone or len(set(alpha.tolist())) < len(alpha)
