"""The training-based scheme: which heads go is learned by hard-concrete gates, then cut.

What is the paper's (arXiv 2511.19518, of which only the abstract is known): head importance is learned
under an information loss. That the loss has a term of effective rank and one of KS distance, as the
paper's criterion for heads has, is inferred here, and so are its form and its weights:

    L = L_task + beta * R + gamma * K + lambda_1 (c - c*) + lambda_2 (c - c*)^2

- `z`: one gate for each KV group, hard-concrete (Louizos et al. 2018): `s = sigmoid((ln u - ln(1-u) +
  ln a) / b)`, `z = clip(1.2 s - 0.1, 0, 1)`, b = 2/3.
- `R`, redundancy: the mean over gates of `z (1 - erank / largest erank of the layer)`; a head that
  writes few directions costs more to keep.
- `K`, alignment: the mean over layers of the KS distance between the spectral energy of the attention's
  output with and without gates, in closed form from the calibrated covariance.
- `c`: the gates' expected cost, c* what attention costs in the training-free plan by whole heads (in
  the one with ranks, where heads alone cannot reach the budget); the multipliers ascend while the rest
  descends (CoFi).

How many groups of a layer the gates close, and which, is then fixed; ranks of what is left of
attention, and FFNs, are allocated as in the training-free scheme (in the uniform layout, how many go as
well).

The weights do not learn; `heal` may train them afterwards.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from compressor.checkpoint import Tower
from compressor.costs import Cost
from compressor.families import TowerSpec
from compressor.recipe import Training
from compressor.scoring import LayerScores
from compressor.training import Batches, final_hidden, task_loss

_STRETCH, _SHIFT, _TEMPERATURE = 1.2, 0.1, 2 / 3
_INITIAL = 2.5  # ln a: gates begin open


@dataclass(frozen=True)
class GatedLayer:
    """One attention with its gates' fixed facts."""

    spec: TowerSpec
    index: int
    redundancy: Tensor
    """(groups,): `1 - erank / largest`."""
    energies: Tensor
    """(groups, groups, width): energy along the output's principal directions that two groups give
    together; with gates it is `sum_ij z_i z_j E_ij`."""
    cost: float
    """Of one group more."""


def hard_concrete(log_alpha: Tensor, uniform: Tensor) -> Tensor:
    """A sample of the gates, of the same shape as both arguments."""
    noise = uniform.log() - (1 - uniform).log()
    s = torch.sigmoid((noise + log_alpha) / _TEMPERATURE)
    return (s * _STRETCH - _SHIFT).clamp(0, 1)


def open_probability(log_alpha: Tensor) -> Tensor:
    """The probability that a gate is not 0."""
    return torch.sigmoid(log_alpha - _TEMPERATURE * math.log(_SHIFT / (_STRETCH - _SHIFT)))


def spectral_energies(weight: Tensor, covariance: Tensor, columns: Sequence[Tensor]) -> Tensor:
    """(groups, groups, width): see `GatedLayer.energies`; fp64 in, fp32 out."""
    w = weight.double()
    output = w @ covariance @ w.T
    directions = torch.linalg.eigh(output)[1].flip(1)
    parts = [directions.T @ w[:, own] for own in columns]
    rows = [
        torch.stack(
            [
                (a @ covariance[own][:, other] * b).sum(1)
                for b, other in zip(parts, columns, strict=True)
            ]
        )
        for a, own in zip(parts, columns, strict=True)
    ]
    return torch.stack(rows).float()


def alignment(energies: Tensor, gates: Tensor) -> Tensor:
    """KS distance of the spectral energies with gates from those without, scalar."""
    whole = energies.sum((0, 1))
    gated = torch.einsum("i,j,ijd->d", gates, gates, energies)
    return (whole - gated).cumsum(0).abs().max() / whole.sum().clamp_min(1e-30)


@contextmanager
def _gated(
    model: nn.Module, layers: Sequence[GatedLayer], gates: Sequence[Tensor]
) -> Iterator[None]:
    """Multiply each head's output by its group's gate."""
    handles = []
    for layer, gate in zip(layers, gates, strict=True):
        block = layer.spec.blocks(model)[layer.index]
        assert layer.spec.attention is not None

        def scale(
            _: nn.Module,
            args: tuple[Tensor, ...],
            gate: Tensor = gate,
            spec: TowerSpec = layer.spec,
        ) -> tuple[Tensor, ...]:
            return (args[0] * gate.repeat_interleave(spec.group * spec.head_dim), *args[1:])

        path = layer.spec.attention.o
        handles.append(block.get_submodule(path).register_forward_pre_hook(scale))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def train_gates(
    model: nn.Module,
    layers: Sequence[GatedLayer],
    batches: Batches,
    settings: Training,
    budget: float,
    *,
    seed: int,
    advance: Callable[[float], None],
) -> list[Tensor]:
    """(groups,) `ln a` of every layer, after training.

    Args:
        model: the original, float32, on the batches' device; its weights are not changed.
        layers: what is gated.
        batches: of the calibration data.
        settings: steps, learning rate, beta and gamma.
        budget: c*, in the unit of the layers' cost.
        seed: of the gates' noise.
        advance: hears the share of the steps that is done.
    """
    model.requires_grad_(False)
    device = next(model.parameters()).device
    generator = torch.Generator().manual_seed(seed)
    alphas = [
        torch.full_like(layer.redundancy, _INITIAL, device=device).requires_grad_()
        for layer in layers
    ]
    multipliers = torch.zeros(2, device=device, requires_grad=True)
    optimizer = torch.optim.Adam(alphas, lr=settings.learning_rate)
    ascent = torch.optim.Adam([multipliers], lr=settings.learning_rate, maximize=True)
    total = sum(layer.cost * len(layer.redundancy) for layer in layers)
    for step in range(settings.steps):
        batch = batches.at(step)
        gates = []
        for alpha in alphas:
            uniform = torch.rand(alpha.shape, generator=generator).clamp(1e-6, 1 - 1e-6)
            gates.append(hard_concrete(alpha, uniform.to(device)))
        with _gated(model, layers, gates):
            loss = task_loss(model, final_hidden(model, batch), batch)
        redundancy = torch.cat(
            [g * layer.redundancy.to(device) for g, layer in zip(gates, layers, strict=True)]
        ).mean()
        aligned = torch.stack(
            [
                alignment(layer.energies.to(device), g)
                for g, layer in zip(gates, layers, strict=True)
            ]
        ).mean()
        # The target falls to c* over the first half, so that gates close in the order of their use.
        goal = 1 - (1 - budget / total) * min(1.0, 2 * step / settings.steps)
        expected = torch.stack(
            [open_probability(a).sum() * x.cost for a, x in zip(alphas, layers, strict=True)]
        ).sum()
        excess = expected / total - goal
        loss = loss + settings.beta * redundancy + settings.gamma * aligned
        loss = loss + multipliers[0] * excess + multipliers[1] * excess.square()
        optimizer.zero_grad()
        ascent.zero_grad()
        loss.backward()
        optimizer.step()
        ascent.step()
        advance((step + 1) / settings.steps)
    return [alpha.detach().cpu() for alpha in alphas]


def kept_groups(
    layers: Sequence[GatedLayer], alphas: Sequence[Tensor], budget: float
) -> list[tuple[int, ...]]:
    """The groups of each layer that stay, ascending: the most open ones that fit the budget.

    At least one group of each layer stays.
    """
    ranked = sorted(
        ((float(a), number, g) for number, alpha in enumerate(alphas) for g, a in enumerate(alpha)),
        reverse=True,
    )
    kept: dict[int, set[int]] = {n: {int(alpha.argmax())} for n, alpha in enumerate(alphas)}
    used = sum(layer.cost for layer in layers)
    for _, number, group in ranked:
        price = layers[number].cost
        if group not in kept[number] and used + price <= budget * (1 + 1e-9):
            kept[number].add(group)
            used += price
    return [tuple(sorted(kept[number])) for number in range(len(layers))]


def order_of(alpha: Tensor) -> tuple[int, ...]:
    """Groups from the one whose gate is most shut to the most open."""
    return tuple(int(g) for g in alpha.argsort(stable=True))


def redundancy_of(scores: LayerScores) -> Tensor:
    """(groups,): `1 - erank / largest erank of the layer`."""
    ranks = torch.tensor([group.effective_rank for group in scores.groups])
    return 1 - ranks / ranks.max().clamp_min(1e-12)


def gated_layers(
    specs: Sequence[TowerSpec],
    scores: Mapping[Tower, Sequence[LayerScores]],
    energies: Callable[[TowerSpec, int], Tensor],
    cost: Cost,
) -> list[GatedLayer]:
    """Every attention in scope."""
    return [
        GatedLayer(
            spec,
            index,
            redundancy_of(layer),
            energies(spec, index),
            _marginal(spec, index, cost),
        )
        for spec in specs
        if spec.attention is not None
        for index, layer in enumerate(scores.get(spec.name, ()))
    ]


def _marginal(spec: TowerSpec, index: int, cost: Cost) -> float:
    """What a group adds to the one that always stays: measured times do not begin at zero."""
    whole = cost.attention(spec, index, spec.heads, spec.kv_heads, {})
    one = cost.attention(spec, index, spec.group, 1, {})
    return max((whole - one) / max(1, spec.kv_heads - 1), 1e-12 * whole)
