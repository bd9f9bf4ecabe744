"""Moments that layers are fitted by: of weights that do not sum to 1, and of one input for several."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from compressor.calibrate import second_moment
from compressor.moments import Moments
from compressor.prune import Fitted


def moments(total: float) -> Moments:
    """Of 500 positions with a mean that is not 0, whose weights sum to `total`."""
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(500, 6, generator=generator) + 3.0
    weights = torch.rand(500, generator=generator)
    found = Moments(constant=True)
    found.add(inputs, total * weights / weights.sum())
    return found


@pytest.mark.parametrize("bias", [True, False])
def test_a_covariance_is_one_whatever_the_weights_sum_to(bias: bool) -> None:
    block = nn.ModuleDict({"linear": nn.Linear(6, 4, bias=bias)})
    whole, part = (second_moment(moments(total), block, "linear") for total in (1.0, 0.3))
    assert torch.allclose(whole, part, rtol=1e-4, atol=1e-4)
    expected = 1.0 if bias else 10.0  # the variance, or with the mean of 3
    assert float(whole.diagonal().mean()) == pytest.approx(expected, rel=0.1)


@pytest.mark.parametrize("rank", [None, 2])
def test_a_fit_is_one_whatever_the_weights_sum_to(rank: int | None) -> None:
    weight = torch.randn(4, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    bias = torch.ones(4, dtype=torch.float64)
    inputs = torch.randn(20, 6, generator=torch.Generator().manual_seed(2)) + 3.0
    whole, part = (
        Fitted(weight, bias, moments(total).gram).linear(rank)(inputs) for total in (1.0, 0.3)
    )
    assert torch.allclose(whole, part, rtol=1e-3, atol=1e-3)


def test_linears_with_one_input_share_its_gram_and_keep_targets_of_their_own() -> None:
    generator = torch.Generator().manual_seed(0)
    x, a, b = (torch.randn(50, n, generator=generator) for n in (6, 3, 4))
    weights = torch.rand(50, generator=generator)
    first, alone = Moments(constant=True), Moments(constant=True)
    second = Moments(constant=True, inputs_of=first)
    for rows in (slice(0, 20), slice(20, 50)):
        first.add(x[rows], weights[rows], a[rows])
        second.add(x[rows], weights[rows], b[rows])
        alone.add(x[rows], weights[rows], b[rows])
    assert second.gram is first.gram
    assert torch.equal(second.gram, alone.gram)
    assert torch.equal(second.cross, alone.cross)
