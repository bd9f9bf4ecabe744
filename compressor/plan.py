"""Plan: which heads and neurons stay and which rank each matrix gets, for one budget. Pure.

Each layer's attention and each layer's FFN is an item with options (cost, loss); the allocation over
all items, of all towers at once, is in `allocation.py`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from compressor.allocation import (
    Choice,
    Item,
    Option,
    allocate,
    attention_frontier,
    ffn_frontier,
)
from compressor.checkpoint import LayerShape, Layout, Tower
from compressor.costs import Cost, shapes_cost
from compressor.errors import BudgetError
from compressor.families import TowerSpec
from compressor.scoring import LayerScores

TargetKind = Literal["flops", "params", "latency"]
Allocator = Callable[[Sequence[Item], float], list[Option]]


class PlannedLayer(LayerShape):
    """A layer's shape, and which of its neurons stay where `ffn_width` is less than all."""

    neurons: tuple[int, ...] = ()
    """Neurons kept, ascending; empty = all."""
    scales: dict[str, tuple[float, ...]] = Field(default_factory=dict)
    """What an error counts in each of the matrices that are factored as one (`LayerScores.scales`)."""

    def shape(self) -> LayerShape:
        """What the checkpoint records."""
        return LayerShape.model_validate(self.model_dump(exclude={"neurons", "scales"}))


class Plan(BaseModel):
    """The frozen decision of a compression: JSON, hashed, replayable."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    architecture: str
    layout: Layout
    target: TargetKind
    asked: float
    """Share of the original's cost that was asked for."""
    planned: float
    """Share that this plan has."""
    text_tokens: int
    """Text tokens of the prompt that FLOPs are counted for."""
    patches: int
    """Image patches of that prompt; 0 where all images have one size."""
    towers: dict[Tower, tuple[PlannedLayer, ...]]
    """Towers that are compressed; the others stay as they are."""

    def canonical(self) -> str:
        """The JSON that is hashed and written: sorted keys, no white space."""
        return json.dumps(self.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))

    @property
    def sha256(self) -> str:
        """Hash of the canonical JSON."""
        return hashlib.sha256(self.canonical().encode()).hexdigest()


def make_plan(  # noqa: PLR0913 - each is a decision of its own
    specs: Sequence[TowerSpec],
    scores: Mapping[Tower, Sequence[LayerScores]],
    cost: Cost,
    *,
    architecture: str,
    target: TargetKind,
    share: float,
    request: tuple[int, int],
    round_to: int,
    layout: Layout = "adaptive",
    allocator: Allocator = allocate,
    low_rank_attention: bool = True,
) -> Plan:
    """Allocate a budget over all towers that have scores.

    Args:
        specs: every tower of the model.
        scores: of the towers in scope.
        cost: the unit of the budget.
        architecture: the model's, for the record.
        target: the unit's name, for the record.
        share: of the original's cost.
        request: (text tokens, image patches) of the prompt that is counted.
        round_to: ranks and widths are multiples of this.
        layout: `uniform` gives every layer of a tower the same shape, without ranks.
        allocator: chooses an option of each item for a budget.
        low_rank_attention: whether attention's matrices may be factored (in the adaptive layout).

    Raises:
        BudgetError: the budget cannot be met; the message says what can.
    """
    adaptive = partial(build_items, low_rank_attention=low_rank_attention)
    build = adaptive if layout == "adaptive" else build_uniform_items
    in_scope = [spec for spec in specs if spec.name in scores]
    items = [item for spec in in_scope for item in build(spec, scores[spec.name], cost, round_to)]
    original = shapes_cost(specs, {}, cost)
    by_name = {spec.name: spec for spec in in_scope}
    untouched = original - sum(_whole(by_name[item.tower], item, cost) for item in items)
    try:
        chosen = allocator(items, share * original - untouched)
    except BudgetError as error:
        least = untouched + sum(min(o.cost for o in item.options) for item in items)
        raise BudgetError(
            f"The budget {target}: {share:g} is impossible for this model: heads and FFNs at their "
            f"smallest leave {least / original:.3f} of its {target}; ask for more than that."
        ) from error
    towers = {spec.name: _layers(spec, scores[spec.name], items, chosen) for spec in in_scope}
    planned = shapes_cost(specs, towers, cost)
    return Plan(
        architecture=architecture,
        layout=layout,
        target=target,
        asked=share,
        planned=round(planned / original, 6),
        text_tokens=request[0],
        patches=request[1],
        towers=towers,
    )


def build_items(
    spec: TowerSpec,
    scores: Sequence[LayerScores],
    cost: Cost,
    round_to: int,
    *,
    low_rank_attention: bool = True,
) -> list[Item]:
    """Two items a layer, its attention and its FFN. At least one KV group stays."""
    items: list[Item] = []
    for index, layer in enumerate(scores):
        if spec.attention is not None:
            options = attention_frontier(
                spec, index, layer, cost, round_to, low_rank=low_rank_attention
            )
            items.append(Item(spec.name, (index,), "attention", options))
        items.append(
            Item(spec.name, (index,), "ffn", ffn_frontier(spec, index, layer, cost, round_to))
        )
    return items


def build_uniform_items(
    spec: TowerSpec, scores: Sequence[LayerScores], cost: Cost, round_to: int
) -> list[Item]:
    """Two items a tower: as many groups gone, and as many neurons kept, in each of its layers.

    What the stock config cannot state stays whole.
    """
    layers = tuple(range(len(scores)))
    items: list[Item] = []
    if spec.attention is not None:
        # transformers' configs want a hidden size that is a multiple of the number of heads.
        counts = [
            gone
            for gone in range(spec.kv_heads if spec.uniform_heads else 1)
            if gone == 0 or spec.width % ((spec.kv_heads - gone) * spec.group) == 0
        ]
        options = tuple(
            Option(
                sum(
                    cost.attention(
                        spec, i, (spec.kv_heads - gone) * spec.group, spec.kv_heads - gone, {}
                    )
                    for i in layers
                ),
                sum(layer.attention_loss[gone] for layer in scores),
                Choice(gone=gone),
            )
            for gone in counts
        )
        items.append(Item(spec.name, layers, "attention", options))
    ranks = spec.dense_layer().ranks
    widths = [spec.ffn_width]
    if spec.uniform_ffn:
        widths += list(range(round_to, spec.ffn_width, round_to))
    options = tuple(
        Option(
            sum(cost.ffn(spec, i, ranks, width) for i in layers),
            sum(layer.width_loss[width] for layer in scores),
            Choice(width=None if width == spec.ffn_width else width),
        )
        for width in widths
    )
    items.append(Item(spec.name, layers, "ffn", options))
    return items


def _whole(spec: TowerSpec, item: Item, cost: Cost) -> float:
    """What the layers of an item cost as they are."""
    if item.part == "attention":
        return sum(cost.attention(spec, i, spec.heads, spec.kv_heads, {}) for i in item.layers)
    ranks = spec.dense_layer().ranks
    return sum(cost.ffn(spec, i, ranks, None) for i in item.layers)


def _layers(
    spec: TowerSpec, scores: Sequence[LayerScores], items: Sequence[Item], chosen: Sequence[Option]
) -> tuple[PlannedLayer, ...]:
    """The layers of a tower that the chosen options stand for."""
    picked = {
        (layer, item.part): option.choice
        for item, option in zip(items, chosen, strict=True)
        if item.tower == spec.name
        for layer in item.layers
    }
    dense = spec.dense_layer()
    layers = []
    for number, layer in enumerate(scores):
        attention = picked.get((number, "attention"), Choice())
        ffn = picked[number, "ffn"]
        kept = tuple(sorted(layer.order[attention.gone :]))
        ranks = dict(attention.ranks) | dict(ffn.ranks)
        layers.append(
            PlannedLayer(
                heads=tuple(g * spec.group + i for g in kept for i in range(spec.group)),
                kv_heads=kept,
                ranks={**dense.ranks, **dict(ffn.ranks)},
                ffn_width=ffn.width,
                attention_ranks=dict(attention.ranks),
                neurons=tuple(sorted(layer.neurons[: ffn.width])) if ffn.width else (),
                scales={k: v for k, v in layer.scales.items() if k in ranks},
            )
        )
    return tuple(layers)
