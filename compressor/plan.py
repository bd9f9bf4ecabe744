"""Plan: which heads stay and which rank each matrix gets, for a budget of FLOPs. Pure.

Each attention layer and each FFN matrix is an item with options (FLOPs, loss). The allocation is
Lagrangian: on the lower convex hull of every item's options, the steps with the least loss per FLOP
saved are taken first, over all towers at once, until the budget holds.
"""

from __future__ import annotations

import hashlib
import heapq
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict

from compressor.checkpoint import LayerShape, Tower
from compressor.errors import BudgetError
from compressor.families import FixedFlops, TowerSpec
from compressor.flops import attention_flops, matrix_flops, request_flops
from compressor.scoring import LayerScores


class Plan(BaseModel):
    """The frozen decision of a compression: JSON, hashed, replayable."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    architecture: str
    target_flops: float
    """Share of the original's FLOPs that was asked for."""
    planned_flops: float
    """Share that this plan has."""
    text_tokens: int
    """Text tokens of the prompt that FLOPs are counted for."""
    towers: dict[Tower, tuple[LayerShape, ...]]

    def canonical(self) -> str:
        """The JSON that is hashed and written: sorted keys, no white space."""
        return json.dumps(self.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))

    @property
    def sha256(self) -> str:
        """Hash of the canonical JSON."""
        return hashlib.sha256(self.canonical().encode()).hexdigest()


@dataclass(frozen=True)
class Option:
    """One way to have an item: what it costs, what it loses, and the choice it stands for."""

    flops: float
    loss: float
    choice: int | None
    """Groups removed, or the rank (None = dense)."""


@dataclass(frozen=True)
class Item:
    """Something that is decided on its own."""

    tower: Tower
    layer: int
    matrix: str | None
    """None: the layer's attention."""
    options: tuple[Option, ...]


def convex_hull(options: Sequence[Option]) -> tuple[Option, ...]:
    """The options on the lower convex hull, by falling FLOPs: each step loses more per FLOP saved."""
    hull: list[Option] = []
    for option in sorted(options, key=lambda o: (-o.flops, o.loss)):
        if hull and option.flops == hull[-1].flops:
            continue
        while hull and option.loss <= hull[-1].loss and len(hull) > 1:
            hull.pop()
        while len(hull) > 1 and _slope(hull[-1], option) <= _slope(hull[-2], hull[-1]):
            hull.pop()
        hull.append(option)
    return tuple(hull)


def _slope(a: Option, b: Option) -> float:
    """Loss per FLOP saved in going from a to b."""
    return (b.loss - a.loss) / (a.flops - b.flops)


def allocate(items: Sequence[Item], budget: float) -> list[Option]:
    """The option of each item, so that their FLOPs fit the budget at the least total loss.

    Greedy over convex hulls is optimal for the budgets it stops at; the last step may save more than
    was needed, so steps that still fit are then taken back, the most harmful first.

    Raises:
        BudgetError: not even the cheapest options fit.
    """
    hulls = [convex_hull(item.options) for item in items]
    at = [0] * len(items)
    used = sum(hull[0].flops for hull in hulls)
    queue = [(_slope(h[0], h[1]), i) for i, h in enumerate(hulls) if len(h) > 1]
    heapq.heapify(queue)
    while used > budget:
        if not queue:
            raise BudgetError("the cheapest options of every layer cost more")
        _, i = heapq.heappop(queue)
        used -= hulls[i][at[i]].flops - hulls[i][at[i] + 1].flops
        at[i] += 1
        if at[i] + 1 < len(hulls[i]):
            heapq.heappush(queue, (_slope(hulls[i][at[i]], hulls[i][at[i] + 1]), i))
    chosen = [hull[k] for hull, k in zip(hulls, at, strict=True)]
    return _take_back(items, chosen, budget - used)


def _take_back(items: Sequence[Item], chosen: list[Option], spare: float) -> list[Option]:
    """Spend spare FLOPs on single better options, the most loss saved first."""
    while True:
        best: tuple[float, int, Option] | None = None
        for i, item in enumerate(items):
            for option in item.options:
                more, gain = option.flops - chosen[i].flops, chosen[i].loss - option.loss
                if 0 < more <= spare and gain > 0 and (best is None or gain > best[0]):
                    best = (gain, i, option)
        if best is None:
            return chosen
        _, i, option = best
        spare -= option.flops - chosen[i].flops
        chosen[i] = option


def build_items(
    spec: TowerSpec, scores: Sequence[LayerScores], *, positions: int, round_to: int
) -> list[Item]:
    """Items of one tower for a request with `positions` positions in it.

    Options keep at least one KV group; ranks are multiples of `round_to` and below break-even,
    `m n / (m + n)`: above it a factored matrix costs more than the dense one.
    """
    items: list[Item] = []
    for number, layer in enumerate(scores):
        attention = tuple(
            Option(
                attention_flops(
                    spec,
                    (spec.kv_heads - gone) * spec.group,
                    spec.kv_heads - gone,
                    queries=positions,
                    keys=positions,
                ),
                loss,
                gone,
            )
            for gone, loss in enumerate(layer.attention_loss)
        )
        items.append(Item(spec.name, number, None, attention))
        for matrix, losses in layer.matrix_loss.items():
            shape = spec.matrix_shape(matrix)
            dense = positions * matrix_flops(shape, None)
            options = [Option(dense, 0.0, None)]
            for rank in range(round_to, min(shape), round_to):
                cost = positions * matrix_flops(shape, rank)
                if cost < dense:
                    options.append(Option(cost, losses[rank], rank))
            items.append(Item(spec.name, number, matrix, tuple(options)))
    return items


def make_plan(
    specs: Sequence[TowerSpec],
    scores: Mapping[Tower, Sequence[LayerScores]],
    fixed: FixedFlops,
    *,
    architecture: str,
    flops: float,
    text_tokens: int,
    round_to: int,
) -> Plan:
    """Allocate a budget over all towers.

    Raises:
        BudgetError: the budget cannot be met; the message says what can.
    """
    positions = {"vision": fixed.vision_positions, "language": fixed.visual_tokens + text_tokens}
    items = [
        item
        for spec in specs
        for item in build_items(
            spec, scores[spec.name], positions=positions[spec.name], round_to=round_to
        )
    ]
    original = request_flops(specs, {}, fixed, text_tokens=text_tokens).prompt
    untouched = original - sum(item.options[0].flops for item in items)
    try:
        chosen = allocate(items, flops * original - untouched)
    except BudgetError as error:
        least = untouched + sum(min(o.flops for o in item.options) for item in items)
        raise BudgetError(
            f"The budget flops: {flops:g} is impossible for this model: heads and FFNs at their "
            f"smallest leave {least / original:.3f} of its FLOPs."
        ) from error
    towers = {spec.name: _shapes(spec, scores[spec.name], items, chosen) for spec in specs}
    planned = request_flops(specs, towers, fixed, text_tokens=text_tokens).prompt
    return Plan(
        architecture=architecture,
        target_flops=flops,
        planned_flops=round(planned / original, 6),
        text_tokens=text_tokens,
        towers=towers,
    )


def _shapes(
    spec: TowerSpec, scores: Sequence[LayerScores], items: Sequence[Item], chosen: Sequence[Option]
) -> tuple[LayerShape, ...]:
    """The shapes of a tower's layers that the chosen options stand for."""
    gone: dict[int, int] = {}
    ranks: dict[int, dict[str, int | None]] = {}
    for item, option in zip(items, chosen, strict=True):
        if item.tower != spec.name:
            continue
        if item.matrix is None:
            gone[item.layer] = option.choice or 0
        else:
            ranks.setdefault(item.layer, {})[item.matrix] = option.choice
    shapes = []
    for number, layer in enumerate(scores):
        kept = tuple(sorted(layer.order[gone[number] :]))
        heads = tuple(g * spec.group + i for g in kept for i in range(spec.group))
        shapes.append(LayerShape(heads=heads, kv_heads=kept, ranks=ranks[number]))
    return tuple(shapes)
