"""What an option costs, by the recipe's target: FLOPs or parameters. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from compressor.checkpoint import LayerShape, Tower
from compressor.families.base import FixedFlops, TowerSpec
from compressor.flops import attention_flops, ffn_flops, keys_of, positions_of, projection_flops

Ranks = Mapping[str, int | None]
AttentionRanks = Mapping[str, int]


class Cost(Protocol):
    """The unit in which a budget is counted."""

    def attention(
        self, spec: TowerSpec, layer: int, heads: int, kv_heads: int, ranks: AttentionRanks
    ) -> float:
        """Cost of one layer's attention; `ranks` names its matrices that are factored."""

    def ffn(self, spec: TowerSpec, layer: int, ranks: Ranks, ffn_width: int | None) -> float:
        """Cost of one layer's FFN."""

    @property
    def untouched(self) -> float:
        """Cost of what no option changes."""


@dataclass(frozen=True)
class FlopsCost:
    """FLOPs before the first token."""

    fixed: FixedFlops
    text_tokens: int

    def attention(
        self, spec: TowerSpec, layer: int, heads: int, kv_heads: int, ranks: AttentionRanks
    ) -> float:
        """FLOPs of a prompt's attention."""
        n = positions_of(spec, self.fixed, self.text_tokens)
        keys = keys_of(spec, layer, n)
        return attention_flops(spec, heads, kv_heads, ranks, queries=n, keys=keys)

    def ffn(self, spec: TowerSpec, layer: int, ranks: Ranks, ffn_width: int | None) -> float:
        """FLOPs of a prompt's FFN."""
        n = positions_of(spec, self.fixed, self.text_tokens)
        return n * ffn_flops(spec, ranks, ffn_width)

    @property
    def untouched(self) -> float:
        """Patch embedding, and the head for one position."""
        return self.fixed.patch_embedding + self.fixed.lm_head


@dataclass(frozen=True)
class ParamsCost:
    """Parameters of matrices; biases and norms count as untouched."""

    other: float
    """Parameters outside all matrices of the towers."""

    def attention(
        self, spec: TowerSpec, layer: int, heads: int, kv_heads: int, ranks: AttentionRanks
    ) -> float:
        """Elements of q, k, v and o."""
        return projection_flops(spec, heads, kv_heads, ranks) / 2

    def ffn(self, spec: TowerSpec, layer: int, ranks: Ranks, ffn_width: int | None) -> float:
        """Elements of the FFN's matrices."""
        return ffn_flops(spec, ranks, ffn_width) / 2

    @property
    def untouched(self) -> float:
        """Embeddings, norms, biases, and what no tower has."""
        return self.other


def shapes_cost(
    specs: Sequence[TowerSpec], shapes: Mapping[Tower, Sequence[LayerShape]], cost: Cost
) -> float:
    """Cost of a whole model; a tower that is absent is dense."""
    total = cost.untouched
    for spec in specs:
        layers = shapes.get(spec.name) or [spec.dense_layer()] * spec.used_layers
        for index, shape in enumerate(layers):
            if spec.attention is not None:
                heads, kv_heads = len(shape.heads), len(shape.kv_heads)
                total += cost.attention(spec, index, heads, kv_heads, shape.attention_ranks)
            total += cost.ffn(spec, index, shape.ranks, shape.ffn_width)
    return total
