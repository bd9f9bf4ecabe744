from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from compressor.algebra import tail
from compressor.neurons import nested_losses, neuron_order
from compressor.scoring import effective_rank, ks_distance, score_heads, whitened_energies

spectra = st.lists(st.floats(0.01, 100), min_size=1, max_size=24).map(
    lambda values: torch.tensor(sorted(values, reverse=True), dtype=torch.float64)
)


def covariance(size: int, seed: int = 0) -> Tensor:
    x = torch.randn(4 * size, size, generator=torch.Generator().manual_seed(seed)).double()
    return x.T @ x / len(x)


@given(spectra)
def test_the_effective_rank_is_between_one_and_the_rank(spectrum: Tensor) -> None:
    assert 1 - 1e-9 <= effective_rank(spectrum) <= len(spectrum) + 1e-9


@given(spectra, st.floats(0.01, 100))
def test_the_effective_rank_ignores_scale(spectrum: Tensor, factor: float) -> None:
    assert effective_rank(spectrum * factor) == pytest.approx(effective_rank(spectrum))


def test_the_effective_rank_of_equal_values_is_their_number() -> None:
    assert effective_rank(torch.ones(7)) == pytest.approx(7)
    assert effective_rank(torch.tensor([1.0, 0.0])) == pytest.approx(1)
    assert effective_rank(torch.zeros(3)) == 0


def test_the_effective_rank_of_a_known_spectrum() -> None:
    p = [0.5, 0.25, 0.25]
    expected = math.exp(-sum(x * math.log(x) for x in p))
    assert effective_rank(torch.tensor([2.0, 1.0, 1.0])) == pytest.approx(expected)


@given(spectra)
def test_the_ks_distance_of_a_truncation_depends_on_the_spectrum(spectrum: Tensor) -> None:
    """METHOD's first trap: over samples of singular values it would be 1 - k/n for all spectra."""
    kept = max(1, len(spectrum) // 2)
    changed = spectrum.clone()
    changed[kept:] = 0

    lost = float(spectrum[kept:].sum() / spectrum.sum())

    assert ks_distance(spectrum, changed) == pytest.approx(lost, abs=1e-9)


def test_the_ks_distance_sees_energy_that_moves() -> None:
    original = torch.tensor([3.0, 1.0])
    assert ks_distance(original, torch.tensor([1.0, 3.0])) == pytest.approx(0.5)
    assert ks_distance(original, original) == 0
    assert ks_distance(torch.zeros(2), torch.zeros(2)) == 0


def test_the_tail_is_what_truncation_loses() -> None:
    weight, cov = torch.randn(5, 9, generator=torch.Generator().manual_seed(1)), covariance(9)
    energies = whitened_energies(weight, cov)

    losses = tail(energies)

    assert len(losses) == 6
    assert losses[0] == pytest.approx(float((weight.double() @ cov @ weight.double().T).trace()))
    assert losses[-1] == 0
    assert bool((losses.diff() <= 1e-9).all())


def test_what_others_predict_costs_nothing_to_remove() -> None:
    """Inputs 2, 3 copy inputs 0, 1: least squares replaces them."""
    cov = covariance(2)
    doubled = torch.cat([torch.cat([cov, cov], 1), torch.cat([cov, cov], 1)])
    weight = torch.randn(3, 4, generator=torch.Generator().manual_seed(2))
    order = torch.arange(4)

    losses = nested_losses(weight, doubled, order)

    assert losses[4] == 0
    assert losses[2] < 1e-4 < losses[1]
    independent = torch.block_diag(cov, cov)
    own = weight.double()[:, 2:]
    expected = float((own @ cov @ own.T).trace())
    assert nested_losses(weight, independent, order)[2] == pytest.approx(expected, rel=1e-4)


def test_nested_losses_are_the_residuals_of_least_squares() -> None:
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(200, 6, generator=generator).double() @ covariance(6)
    weight = torch.randn(4, 6, generator=generator).double()
    order = torch.tensor([2, 0, 5, 3, 1, 4])

    losses = nested_losses(weight, x.T @ x / len(x), order)

    for count in range(1, 6):
        kept, gone = order[:count], order[count:]
        target = x[:, gone] @ weight[:, gone].T
        fitted = torch.linalg.lstsq(x[:, kept], target).solution
        residual = float((target - x[:, kept] @ fitted).square().sum()) / len(x)
        assert float(losses[count]) == pytest.approx(residual, rel=1e-3)


def test_the_last_neuron_to_go_is_the_one_that_writes_most() -> None:
    weight = torch.diag(torch.tensor([1.0, 5.0, 0.0, 3.0]))

    order = neuron_order(weight, torch.eye(4, dtype=torch.float64))

    assert order.tolist() == [1, 3, 0, 2]


def test_backward_elimination_by_downdates_is_that_by_inversions() -> None:
    """Each round from scratch: invert what is left, refit, let the least harmful go."""
    weight, cov = torch.randn(5, 24, generator=torch.Generator().manual_seed(6)), covariance(24)
    penalty = 1e-6 * float(cov.diagonal().mean())
    kept, gone = list(range(24)), list[int]()
    while len(kept) > 1:
        left = cov[kept][:, kept] + penalty * torch.eye(len(kept)).double()
        inverse = torch.linalg.inv(left)
        refitted = (weight.double() @ cov)[:, kept] @ inverse
        score = refitted.square().sum(0) / inverse.diagonal()
        out = [kept[i] for i in score.argsort()[: max(1, int(0.15 * len(kept)))]]
        gone += out
        kept = [i for i in kept if i not in out]

    assert neuron_order(weight, cov).tolist() == [*kept, *reversed(gone)]


@given(st.integers(2, 40), st.integers(0, 100))
def test_every_neuron_has_one_place_in_the_order(size: int, seed: int) -> None:
    weight = torch.randn(3, size, generator=torch.Generator().manual_seed(seed))
    assert sorted(neuron_order(weight, covariance(size, seed)).tolist()) == list(range(size))


def test_a_backward_elimination_loses_less_than_a_random_order() -> None:
    weight, cov = torch.randn(8, 32, generator=torch.Generator().manual_seed(4)), covariance(32)
    chosen = nested_losses(weight, cov, neuron_order(weight, cov))
    for seed in range(5):
        random = torch.randperm(32, generator=torch.Generator().manual_seed(seed))
        assert chosen[16] < nested_losses(weight, cov, random)[16]


def test_a_head_s_distance_is_that_of_the_output_without_it() -> None:
    weight = torch.randn(7, 6, generator=torch.Generator().manual_seed(8))
    cov = covariance(6)
    columns = [torch.arange(0, 3), torch.arange(3, 6)]
    values, vectors = torch.linalg.eigh(weight.double() @ cov @ weight.double().T)

    found = score_heads(weight, cov, columns)

    for own, score in zip(columns, found, strict=True):
        rest = weight.double().clone()
        rest[:, own] = 0
        projected = vectors.flip(1).T @ rest
        without = (projected @ cov * projected).sum(1)
        assert score.ks == pytest.approx(ks_distance(values.flip(0), without), abs=1e-12)


def test_a_silent_head_scores_lowest_and_a_richer_one_higher() -> None:
    weight = torch.eye(6)
    weight[:, 4:] = 0  # the third head writes nothing
    weight[1, 1] = 1e-3  # the first writes one direction, the second two
    columns = [torch.arange(0, 2), torch.arange(2, 4), torch.arange(4, 6)]

    scores = score_heads(weight, torch.eye(6, dtype=torch.float64), columns)

    assert scores[2].score == 0
    assert scores[1].score > scores[0].score > scores[2].score
    assert scores[1].effective_rank == pytest.approx(2)
