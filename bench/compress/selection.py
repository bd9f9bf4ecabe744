"""Which groups and neurons stay under a FLOP budget, as each kind of method allocates. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from bench.compress.criteria import Ranking, layers_of
from bench.compress.signals import Key
from compressor.allocation import Choice, Item, Option, allocate
from compressor.checkpoint import Tower
from compressor.costs import FlopsCost, shapes_cost
from compressor.errors import BudgetError
from compressor.families import TowerSpec
from compressor.plan import PlannedLayer

ROUND_TO = 16
_BISECTIONS = 40


@dataclass(frozen=True)
class Kept:
    """What stays of one layer, ascending."""

    groups: tuple[int, ...]
    neurons: tuple[int, ...]


Selection = Mapping[Key, Kept]


def share_of(specs: Sequence[TowerSpec], kept: Selection, cost: FlopsCost) -> float:
    """FLOPs of a selection over the original's."""
    shapes = planned(specs, kept)
    return shapes_cost(specs, shapes, cost) / shapes_cost(specs, {}, cost)


def planned(specs: Sequence[TowerSpec], kept: Selection) -> dict[Tower, tuple[PlannedLayer, ...]]:
    """The selection as a plan's towers."""
    towers: dict[Tower, list[PlannedLayer]] = {}
    for spec, index in layers_of(specs):
        each = kept[spec.name, index]
        whole = len(each.neurons) == spec.ffn_width
        towers.setdefault(spec.name, []).append(
            PlannedLayer(
                heads=tuple(g * spec.group + i for g in each.groups for i in range(spec.group)),
                kv_heads=each.groups,
                ranks=spec.dense_layer().ranks,
                ffn_width=None if whole else len(each.neurons),
                neurons=() if whole else each.neurons,
            )
        )
    return {name: tuple(layers) for name, layers in towers.items()}


def uniform(
    specs: Sequence[TowerSpec], ranking: Ranking, cost: FlopsCost, share: float
) -> Selection:
    """The same ratio of groups and of neurons in every layer, as near to each other as groups allow."""

    def at(groups: float, neurons: float) -> Selection:
        return {
            (s.name, i): Kept(
                top(ranking[s.name, i].groups, max(1, round(groups * s.kv_heads))),
                top(ranking[s.name, i].neurons, _rounded(neurons * s.ffn_width)),
            )
            for s, i in layers_of(specs)
        }

    return _largest_of_both(specs, at, cost, share)


def heads_over_layers(
    specs: Sequence[TowerSpec], ranking: Ranking, cost: FlopsCost, share: float
) -> Selection:
    """Groups ranked over all layers of a tower; the same ratio of neurons in every layer."""

    def at(groups: float, neurons: float) -> Selection:
        found: dict[Key, Kept] = {}
        for spec in {s.name: s for s, _ in layers_of(specs)}.values():
            scores = torch.stack([ranking[spec.name, i].groups for i in range(spec.used_layers)])
            count = max(spec.used_layers, round(groups * scores.numel()))
            keep = _one_a_row(scores, count)
            for i in range(spec.used_layers):
                width = _rounded(neurons * spec.ffn_width)
                found[spec.name, i] = Kept(
                    tuple(keep[i].nonzero()[:, 0].tolist()),
                    top(ranking[spec.name, i].neurons, width),
                )
        return found

    return _largest_of_both(specs, at, cost, share)


def threshold(
    specs: Sequence[TowerSpec], ranking: Ranking, cost: FlopsCost, share: float
) -> Selection:
    """One threshold over everything's (standardised) scores, heads and neurons alike."""
    scores = torch.cat([torch.cat([r.groups, r.neurons]).double() for r in ranking.values()])
    ordered = scores.sort(descending=True).values

    def at(ratio: float) -> Selection:
        bound = float(ordered[min(len(ordered) - 1, int(ratio * len(ordered)))])
        return {
            (s.name, i): Kept(
                top(r.groups, max(1, int((r.groups >= bound).sum()))),
                top(r.neurons, _rounded(int((r.neurons >= bound).sum()))),
            )
            for s, i in layers_of(specs)
            for r in (ranking[s.name, i],)
        }

    return at(_largest(specs, at, cost, share))


def per_cost(
    specs: Sequence[TowerSpec], ranking: Ranking, cost: FlopsCost, share: float
) -> Selection:
    """Least importance per FLOP saved first, over everything: for scores that add up, as losses do."""
    items, orders = [], []
    for spec, index in layers_of(specs):
        r = ranking[spec.name, index]
        groups, neurons = r.groups.argsort(), r.neurons.argsort()
        orders.append((groups, neurons))
        losses = torch.cat([torch.zeros(1), r.groups[groups].cumsum(0)])
        options = tuple(
            Option(
                cost.attention(
                    spec, index, (spec.kv_heads - k) * spec.group, spec.kv_heads - k, {}
                ),
                float(losses[k]),
                Choice(gone=k),
            )
            for k in range(spec.kv_heads)
        )
        items.append(Item(spec.name, (index,), "attention", options))
        losses = torch.cat([torch.zeros(1), r.neurons[neurons].cumsum(0)])
        ranks = spec.dense_layer().ranks
        widths = [spec.ffn_width, *range(ROUND_TO, spec.ffn_width, ROUND_TO)]
        options = tuple(
            Option(
                cost.ffn(spec, index, ranks, w), float(losses[spec.ffn_width - w]), Choice(width=w)
            )
            for w in widths
        )
        items.append(Item(spec.name, (index,), "ffn", options))
    original = shapes_cost(specs, {}, cost)
    untouched = original - sum(item.options[0].cost for item in items)
    chosen = allocate(items, share * original - untouched)
    kept = {}
    for number, (spec, index) in enumerate(layers_of(specs)):
        groups, neurons = orders[number]
        gone = chosen[2 * number].choice.gone
        width = chosen[2 * number + 1].choice.width or spec.ffn_width
        kept[spec.name, index] = Kept(
            tuple(sorted(groups[gone:].tolist())),
            tuple(sorted(neurons[spec.ffn_width - width :].tolist())),
        )
    return kept


def top(scores: Tensor, count: int) -> tuple[int, ...]:
    """Indices of the `count` highest, ascending."""
    return tuple(sorted(scores.argsort(descending=True)[:count].tolist()))


def _rounded(width: float) -> int:
    return max(ROUND_TO, round(width / ROUND_TO) * ROUND_TO)


def _one_a_row(scores: Tensor, count: int) -> Tensor:
    """A mask of `scores`: the best of each row, and then the best of all, `count` together."""
    first = torch.zeros_like(scores, dtype=torch.bool)
    first[torch.arange(len(scores)), scores.argmax(1)] = True
    rest = scores.masked_fill(first, -torch.inf).flatten()
    keep = first.flatten()
    keep[rest.argsort(descending=True)[: count - len(scores)]] = True
    return keep.reshape(scores.shape)


def _largest_of_both(
    specs: Sequence[TowerSpec],
    at: Callable[[float, float], Selection],
    cost: FlopsCost,
    share: float,
) -> Selection:
    """The largest ratio of both that fits, and then more neurons: groups are coarse steps of FLOPs.

    Raises:
        BudgetError: no ratio fits.
    """
    both = _largest(specs, lambda ratio: at(ratio, ratio), cost, share)
    neurons = _largest(specs, lambda ratio: at(both, ratio), cost, share, least=both)
    return at(both, neurons)


def _largest(
    specs: Sequence[TowerSpec],
    at: Callable[[float], Selection],
    cost: FlopsCost,
    share: float,
    *,
    least: float = 0.0,
) -> float:
    """The largest ratio whose selection fits the budget.

    Raises:
        BudgetError: not even the least does.
    """
    low, high = least, 1.0
    if share_of(specs, at(low), cost) > share:
        raise BudgetError("the smallest selection of this method costs more")
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        if share_of(specs, at(middle), cost) <= share:
            low = middle
        else:
            high = middle
    return low
