"""Allocation: one option of each item, so that a budget holds at the least total loss. Pure.

`allocate` is Lagrangian: on the lower convex hull of every item's options, the steps with the least
loss per cost saved are taken first, over all items at once. `allocate_exact` is a knapsack by dynamic
programming. `bench/compress` compares the two.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from compressor.checkpoint import Tower
from compressor.costs import Cost
from compressor.errors import BudgetError
from compressor.families import TowerSpec
from compressor.scoring import LayerScores

_BINS = 4000
_RANKS = 64  # of a matrix are on offer, at the most


@dataclass(frozen=True)
class Choice:
    """What an option stands for."""

    gone: int = 0
    """KV groups removed."""
    width: int | None = None
    """Neurons kept; None = all."""
    ranks: tuple[tuple[str, int], ...] = ()
    """Matrices that are factored, with their ranks."""


@dataclass(frozen=True)
class Option:
    """One way to have an item: what it costs, what it loses, and the choice it stands for."""

    cost: float
    loss: float
    choice: Choice


@dataclass(frozen=True)
class Item:
    """Something that is decided on its own."""

    tower: Tower
    layers: tuple[int, ...]
    part: Literal["attention", "ffn"]
    options: tuple[Option, ...]


def convex_hull(options: Sequence[Option]) -> tuple[Option, ...]:
    """The options on the lower convex hull, by falling cost: each step loses more per cost saved."""
    hull: list[Option] = []
    for option in sorted(options, key=lambda o: (-o.cost, o.loss)):
        if hull and option.cost == hull[-1].cost:
            continue
        while hull and option.loss <= hull[-1].loss and len(hull) > 1:
            hull.pop()
        while len(hull) > 1 and _slope(hull[-1], option) <= _slope(hull[-2], hull[-1]):
            hull.pop()
        hull.append(option)
    return tuple(hull)


def _slope(a: Option, b: Option) -> float:
    """Loss per cost saved in going from a to b."""
    return (b.loss - a.loss) / (a.cost - b.cost)


def ffn_frontier(
    spec: TowerSpec, layer: int, scores: LayerScores, cost: Cost, round_to: int
) -> tuple[Option, ...]:
    """The ways to have an FFN: dense, in low rank, or with fewer neurons."""
    dense = dict(spec.dense_layer().ranks)
    found = [Option(cost.ffn(spec, layer, dense, None), 0.0, Choice())]
    if spec.attention is not None:  # the projector's inner width is what stock classes fix
        found += [
            Option(cost.ffn(spec, layer, dense, w), scores.width_loss[w], Choice(width=w))
            for w in range(round_to, spec.ffn_width, round_to)
        ]
    shapes = {name: spec.matrix_shape(name) for name in spec.ffn_names}
    steps = low_rank_frontier(
        shapes, scores, lambda ranks: cost.ffn(spec, layer, {**dense, **ranks}, None), round_to
    )
    return (*found, *steps)


def attention_frontier(
    spec: TowerSpec,
    layer: int,
    scores: LayerScores,
    cost: Cost,
    round_to: int,
    *,
    low_rank: bool = True,
) -> tuple[Option, ...]:
    """The ways to have attention: with fewer groups, and with `low_rank` in low rank, or both.

    The loss of both is taken as the sum: a matrix whose rows or columns are cut loses at most what the
    whole one loses at that rank. Where `scores.gone` is settled, only that many groups go.
    """
    found: list[Option] = []
    names = spec.factored if low_rank else ()
    for gone, loss in enumerate(scores.attention_loss):
        if scores.gone not in (None, gone):
            continue
        heads, kv_heads = (spec.kv_heads - gone) * spec.group, spec.kv_heads - gone

        def price(ranks: Mapping[str, int], heads: int = heads, kv_heads: int = kv_heads) -> float:
            return cost.attention(spec, layer, heads, kv_heads, ranks)

        found.append(Option(price({}), loss, Choice(gone=gone)))
        joint = spec.projection_shapes(heads, kv_heads, joint=True)
        shapes = {name: joint[name] for name in names}
        found += [
            replace(o, loss=o.loss + loss, choice=replace(o.choice, gone=gone))
            for o in low_rank_frontier(shapes, scores, price, round_to)
        ]
    return tuple(found)


def low_rank_frontier(
    shapes: Mapping[str, tuple[int, int]],
    scores: LayerScores,
    price: Callable[[Mapping[str, int]], float],
    round_to: int,
) -> list[Option]:
    """Ranks of several matrices, along the frontier of their summed losses.

    Of all matrices the step with the least loss per cost saved comes next, which is the same slope
    everywhere: an energy threshold on each whitened spectrum that the budget sets. A rank at which
    factoring costs more than the dense matrix (break-even, `m n / (m + n)`) is no option.

    Args:
        shapes: (out, in) of each matrix.
        scores: of the layer.
        price: what the layer costs with the matrices that are named at these ranks.
        round_to: ranks are multiples of this.
    """
    whole = price({})
    hulls = []
    for matrix, shape in shapes.items():
        losses = scores.matrix_loss[matrix]
        options = [Option(whole, 0.0, Choice())]
        smaller = min(shape)
        step = max(round_to, smaller // _RANKS // round_to * round_to)
        for rank in range(step, smaller, step):
            cheaper = price({matrix: rank})
            if cheaper < whole:
                options.append(Option(cheaper, losses[rank], Choice(ranks=((matrix, rank),))))
        hulls.append(convex_hull(options))
    found: list[Option] = []
    at = [0] * len(hulls)
    while True:
        steps = [
            (_slope(h[k], h[k + 1]), i)
            for i, (h, k) in enumerate(zip(hulls, at, strict=True))
            if k + 1 < len(h)
        ]
        if not steps:
            return found
        at[min(steps)[1]] += 1
        now = [hull[k] for hull, k in zip(hulls, at, strict=True)]
        ranks = tuple(pair for option in now for pair in option.choice.ranks)
        loss = sum(option.loss for option in now)
        found.append(Option(price(dict(ranks)), loss, Choice(ranks=ranks)))


def allocate(items: Sequence[Item], budget: float) -> list[Option]:
    """The option of each item, so that their cost fits the budget at the least total loss.

    Greedy over convex hulls is optimal for the budgets it stops at; the last step may save more than
    was needed, so steps that still fit are then taken back, the most harmful first.

    Raises:
        BudgetError: not even the cheapest options fit.
    """
    hulls = [convex_hull(item.options) for item in items]
    at = [0] * len(items)
    used = sum(hull[0].cost for hull in hulls)
    queue = [(_slope(h[0], h[1]), i) for i, h in enumerate(hulls) if len(h) > 1]
    heapq.heapify(queue)
    while used > budget:
        if not queue:
            raise BudgetError("the cheapest options of every layer cost more")
        _, i = heapq.heappop(queue)
        used -= hulls[i][at[i]].cost - hulls[i][at[i] + 1].cost
        at[i] += 1
        if at[i] + 1 < len(hulls[i]):
            heapq.heappush(queue, (_slope(hulls[i][at[i]], hulls[i][at[i] + 1]), i))
    chosen = [hull[k] for hull, k in zip(hulls, at, strict=True)]
    return _take_back(items, chosen, budget - used)


def _take_back(items: Sequence[Item], chosen: list[Option], spare: float) -> list[Option]:
    """Spend what is left of the budget on the options that win back most loss, hull or not."""
    while True:
        best: tuple[float, int, Option] | None = None
        for i, item in enumerate(items):
            for option in item.options:
                extra = option.cost - chosen[i].cost
                gain = chosen[i].loss - option.loss
                if 0 < extra <= spare and gain > 0 and (best is None or gain > best[0]):
                    best = (gain, i, option)
        if best is None:
            return chosen
        _, i, option = best
        spare -= option.cost - chosen[i].cost
        chosen[i] = option


def allocate_exact(items: Sequence[Item], budget: float, *, bins: int = _BINS) -> list[Option]:
    """As `allocate`, by dynamic programming over the budget in `bins` steps.

    Costs are rounded up to whole steps, so the budget always holds and the result is the optimum of
    the rounded problem; with 4000 steps it differs from the real one by less than a step an item.

    Raises:
        BudgetError: not even the cheapest options fit.
    """
    least = sum(min(o.cost for o in item.options) for item in items)
    if least > budget:
        raise BudgetError("the cheapest options of every layer cost more")
    bins = bins if budget > least else 0
    step = (budget - least) / max(1, bins) or 1.0
    best = np.zeros(bins + 1)
    picks: list[np.ndarray] = []
    for item in items:
        floor = min(o.cost for o in item.options)
        extra = [int(np.ceil((o.cost - floor) / step - 1e-9)) for o in item.options]
        table = np.full((len(extra), bins + 1), np.inf)
        for row, (option, steps) in enumerate(zip(item.options, extra, strict=True)):
            if steps <= bins:
                table[row, steps:] = best[: bins + 1 - steps] + option.loss
        picks.append(table.argmin(0))
        best = table.min(0)
    chosen: list[Option] = []
    left = bins
    for item, pick in zip(reversed(items), reversed(picks), strict=True):
        option = item.options[int(pick[left])]
        floor = min(o.cost for o in item.options)
        left -= int(np.ceil((option.cost - floor) / step - 1e-9))
        chosen.append(option)
    return chosen[::-1]
