"""Importance of KV groups and neurons by each published criterion. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from bench.compress.signals import Key, LayerSignals
from compressor.families import TowerSpec
from compressor.loading import linear_at
from compressor.moments import Moments

HIES_SHARE = 0.5
"""alpha of HIES: importance by gradient against attention entropy."""


@dataclass(frozen=True)
class Importance:
    """Of one layer: higher stays longer."""

    groups: Tensor
    """(groups,)"""
    neurons: Tensor
    """(neurons,)"""


Ranking = Mapping[Key, Importance]


def layers_of(specs: Sequence[TowerSpec]) -> list[tuple[TowerSpec, int]]:
    """Every layer with attention."""
    return [(s, i) for s in specs if s.attention is not None for i in range(s.used_layers)]


def random(specs: Sequence[TowerSpec], seed: int) -> Ranking:
    """Uniform noise."""
    rng = np.random.default_rng([0xBE9C, seed])
    return {
        (s.name, i): Importance(
            torch.from_numpy(rng.random(s.kv_heads)), torch.from_numpy(rng.random(s.ffn_width))
        )
        for s, i in layers_of(specs)
    }


def magnitude(model: nn.Module, specs: Sequence[TowerSpec]) -> Ranking:
    """Sum of squared weights: rows of q, k, v and columns of o; rows and columns of the FFN."""
    found = {}
    for spec, index in layers_of(specs):
        block, attention = spec.blocks(model)[index], spec.attention
        assert attention is not None

        def rows(path: str, parts: int, block: nn.Module = block) -> Tensor:
            return linear_at(block, path).weight.data.square().sum(1).reshape(parts, -1).sum(1)

        def columns(path: str, parts: int, block: nn.Module = block) -> Tensor:
            return linear_at(block, path).weight.data.square().sum(0).reshape(parts, -1).sum(1)

        g, n = spec.kv_heads, spec.ffn_width
        groups = sum((rows(p, g) for p in (attention.q, attention.k, attention.v)), torch.zeros(g))
        neurons = sum((rows(p, n) for p in spec.ffn_inputs), torch.zeros(n))
        found[spec.name, index] = Importance(
            groups + columns(attention.o, g), neurons + columns(spec.ffn_output, n)
        )
    return found


def taylor(signals: Mapping[Key, LayerSignals]) -> Ranking:
    """First-order effect on the loss (Michel et al. 2019, there for heads)."""
    return {k: Importance(s.group_taylor, s.neuron_taylor) for k, s in signals.items()}


def entropy(signals: Mapping[Key, LayerSignals], *, low_goes_first: bool = False) -> Ranking:
    """Heads whose attention is spread most go first, or with the other sign least; neurons: Taylor."""
    sign = 1.0 if low_goes_first else -1.0
    return {k: Importance(sign * s.entropy, s.neuron_taylor) for k, s in signals.items()}


def hies(signals: Mapping[Key, LayerSignals]) -> Ranking:
    """`a norm(HIS) + (1 - a) (1 - norm(entropy))`, norms over a tower (arXiv 2510.13832).

    Neurons by `taylor`, as HIES ranks heads only.
    """
    found: dict[Key, Importance] = {}
    for tower in {name for name, _ in signals}:
        layers = {k: s for k, s in signals.items() if k[0] == tower}
        importance = _unit(torch.stack([s.group_taylor for s in layers.values()]))
        spread = _unit(torch.stack([s.entropy for s in layers.values()]))
        joined = HIES_SHARE * importance + (1 - HIES_SHARE) * (1 - spread)
        found |= {
            k: Importance(row, s.neuron_taylor)
            for (k, s), row in zip(layers.items(), joined, strict=True)
        }
    return found


def flap(model: nn.Module, specs: Sequence[TowerSpec], moments: Mapping[str, Moments]) -> Ranking:
    """Fluctuation `var(x_j) |W_:j|^2`, standardised in each layer (FLAP, arXiv 2312.11983)."""
    found = {}
    for spec, index in layers_of(specs):
        assert spec.attention is not None
        block, path = spec.blocks(model)[index], spec.block_path(index)

        def fluctuation(
            name: str, parts: int, block: nn.Module = block, path: str = path
        ) -> Tensor:
            weight = linear_at(block, name).weight.data
            each = variance(moments[f"{path}.{name}"]) * weight.double().square().sum(0)
            score = each.reshape(parts, -1).mean(1)
            return (score - score.mean()) / score.std().clamp_min(1e-12)

        found[spec.name, index] = Importance(
            fluctuation(spec.attention.o, spec.kv_heads),
            fluctuation(spec.ffn_output, spec.ffn_width),
        )
    return found


def variance(moments: Moments) -> Tensor:
    """(n,) variance of each input."""
    scale = moments.gram[-1, -1]
    mean = moments.gram[:-1, -1] / scale
    return moments.gram.diagonal()[:-1] / scale - mean.square()


def _unit(values: Tensor) -> Tensor:
    low, high = values.min(), values.max()
    return (values - low) / (high - low).clamp_min(1e-12)
