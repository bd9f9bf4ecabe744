from __future__ import annotations

import pytest
import torch
from torch import Tensor

from compressor import moments
from compressor.moments import Energy, Moments


def batches() -> list[tuple[Tensor, Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(0)
    return [
        (
            torch.randn(2, 5, 7, generator=generator),
            torch.rand(10, generator=generator),
            torch.randn(2, 5, 3, generator=generator),
        )
        for _ in range(3)
    ]


@pytest.mark.parametrize("block", [2, 3, 7, 1024])
@pytest.mark.parametrize("constant", [False, True])
def test_moments_are_the_weighted_sums_whatever_the_block(
    block: int, constant: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(moments, "_BLOCK", block)
    found = Moments(constant=constant)
    gram, cross = torch.zeros(8, 8).double(), torch.zeros(3, 8).double()
    for x, w, t in batches():
        found.add(x, w, t)
        rows = torch.cat([x.reshape(10, 7), torch.ones(10, 1)], dim=1).double()
        gram += rows.T @ (rows * w[:, None].double())
        cross += t.reshape(10, 3).double().T @ (rows * w[:, None].double())
    size = 8 if constant else 7

    assert torch.allclose(found.gram, gram[:size, :size], atol=1e-5)
    assert torch.equal(found.gram, found.gram.T)
    assert torch.allclose(found.cross, cross[:, :size], atol=1e-5)


def test_positions_without_weight_are_not_seen() -> None:
    found = Moments()
    x = torch.ones(4, 2)
    x[2:] = torch.nan
    found.add(x, torch.tensor([0.5, 0.5, 0.0, 0.0]))
    assert found.gram.tolist() == [[1.0, 1.0], [1.0, 1.0]]


def test_the_variance_is_around_the_mean() -> None:
    energy = Energy()
    energy.add(torch.tensor([[1.0, 2.0], [3.0, 2.0]]), torch.tensor([0.5, 0.5]))
    assert energy.variance == pytest.approx(1.0)


def test_what_does_not_vary_has_no_variance_whatever_the_weights_sum_to() -> None:
    energy = Energy()
    for _ in range(3):
        energy.add(torch.full((5, 4), 7.3), torch.full((5,), 1 / 15 + 1e-6))
    assert energy.second_moment == pytest.approx(4 * 7.3**2)
    assert abs(energy.variance) < 1e-12 * energy.second_moment
