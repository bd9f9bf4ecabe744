"""What only a head writes, and the order in which heads go."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from bench.compress.elimination import rank_heads
from compressor.errors import CalibrationError
from compressor.scoring import effective_rank, ks_distance


def activations(groups: int, size: int, seed: int) -> Tensor:
    """(samples, groups * size) whose columns are correlated."""
    generator = torch.Generator().manual_seed(seed)
    mixed = torch.randn(groups * size, groups * size, generator=generator).double()
    return torch.randn(400, groups * size, generator=generator).double() @ mixed


def matrix(rows: int, columns: int, seed: int = 0) -> Tensor:
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed))


def columns_of(groups: int, size: int) -> list[Tensor]:
    return [torch.arange(g * size, (g + 1) * size) for g in range(groups)]


def lost_without(x: Tensor, weight: Tensor, kept: list[int]) -> Tensor:
    """The output that least squares cannot make of the columns that stay, (samples, width)."""
    output = x @ weight.double().T
    if not kept:
        return output
    return output - x[:, kept] @ torch.linalg.lstsq(x[:, kept], output).solution


def test_a_head_scores_by_what_the_others_cannot_make_up_for() -> None:
    x, weight = activations(3, 2, seed=1), matrix(5, 6)
    columns = columns_of(3, 2)

    scores, _ = rank_heads(weight, x.T @ x / len(x), columns)

    total = float((x @ weight.double().T).square().sum())
    ranks = []
    for own, found in zip(columns, scores, strict=True):
        lost = lost_without(x, weight, [i for i in range(6) if i not in own.tolist()])
        assert found.ks == pytest.approx(float(lost.square().sum()) / total, rel=1e-3)
        ranks.append(effective_rank(torch.linalg.svdvals(lost)))
        assert found.effective_rank == pytest.approx(ranks[-1], rel=1e-2)
    for rank, found in zip(ranks, scores, strict=True):
        assert found.score == pytest.approx(found.ks * rank / max(ranks), rel=1e-2)


def test_the_share_that_is_lost_is_the_ks_distance_of_the_spectra() -> None:
    x, weight = activations(3, 2, seed=2), matrix(5, 6)
    output = x @ weight.double().T
    values, vectors = torch.linalg.eigh(output.T @ output)
    fitted = output - lost_without(x, weight, [2, 3, 4, 5])
    without = (fitted @ vectors.flip(1)).square().sum(0)

    scores, _ = rank_heads(weight, x.T @ x / len(x), columns_of(3, 2))

    assert scores[0].ks == pytest.approx(ks_distance(values.flip(0), without), rel=1e-3)


def test_heads_go_as_elimination_from_scratch_lets_them_go() -> None:
    x, weight, columns = activations(6, 3, seed=3), matrix(8, 18), columns_of(6, 3)
    left, order = list(range(6)), list[int]()
    while left:
        stays = {g: [i for h in left if h != g for i in columns[h].tolist()] for g in left}
        base = lost_without(x, weight, [i for h in left for i in columns[h].tolist()])
        unique = {g: lost_without(x, weight, stays[g]) - base for g in left}
        score = {
            g: float(u.square().sum()) * effective_rank(torch.linalg.svdvals(u))
            for g, u in unique.items()
        }
        order.append(min(score, key=score.__getitem__))
        left.remove(order[-1])

    assert rank_heads(weight, x.T @ x / len(x), columns)[1] == tuple(order)


def test_of_two_copies_one_goes_first_and_the_other_stays() -> None:
    x = torch.randn(300, 6, generator=torch.Generator().manual_seed(4)).double()
    x[:, 2:4] = x[:, :2]
    weight = torch.eye(6)
    weight[4:, 4:] *= 0.5  # the third writes less than either copy, and nobody else writes it

    scores, order = rank_heads(weight, x.T @ x / len(x), columns_of(3, 2))

    assert max(scores[0].ks, scores[1].ks) < 1e-4 < scores[2].ks
    assert set(order[:1]) < {0, 1}
    assert order[1] == 2


def test_a_silent_head_scores_lowest_and_a_richer_one_higher() -> None:
    weight = torch.eye(6)
    weight[:, 4:] = 0  # the third head writes nothing
    weight[1, 1] = 1e-3  # the first writes one direction, the second two

    scores, order = rank_heads(weight, torch.eye(6, dtype=torch.float64), columns_of(3, 2))

    assert scores[2].score == 0
    assert scores[1].score > scores[0].score
    assert scores[1].effective_rank == pytest.approx(2)
    assert order == (2, 0, 1)


@given(st.integers(1, 5), st.integers(1, 3), st.integers(0, 50))
def test_scores_are_shares_and_every_head_has_one_place(groups: int, size: int, seed: int) -> None:
    x = activations(groups, size, seed)
    weight = matrix(4, groups * size, seed)

    scores, order = rank_heads(weight, x.T @ x / len(x), columns_of(groups, size))

    assert sorted(order) == list(range(groups))
    for found in scores:
        assert 0 <= found.score <= found.ks * (1 + 1e-9) <= 1 + 1e-6
        assert 0 <= found.effective_rank <= size + 1e-9


def test_the_criterion_is_what_heads_are_ordered_by() -> None:
    x, weight = activations(4, 2, seed=5), matrix(5, 8)
    moments, columns = x.T @ x / len(x), columns_of(4, 2)
    assert rank_heads(weight, moments, columns, lambda head: -head.score)[1][0] == max(
        range(4), key=lambda g: rank_heads(weight, moments, columns)[0][g].score
    )


def test_moments_that_are_not_finite_are_an_error() -> None:
    with pytest.raises(CalibrationError, match="not finite"):
        rank_heads(torch.eye(4), torch.full((4, 4), torch.nan).double(), columns_of(2, 2))
