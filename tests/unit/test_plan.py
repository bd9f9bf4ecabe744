from __future__ import annotations

import json
from itertools import pairwise, product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compressor.allocation import Choice, Item, Option, allocate, allocate_exact, convex_hull
from compressor.errors import BudgetError
from compressor.plan import Plan


@st.composite
def options_of_an_item(draw: st.DrawFn) -> tuple[Option, ...]:
    costs = draw(st.lists(st.integers(1, 50), min_size=1, max_size=6, unique=True))
    return tuple(
        Option(float(cost), draw(st.floats(0, 10)) if index else 0.0, Choice(index))
        for index, cost in enumerate(sorted(costs, reverse=True))
    )


items_lists = st.lists(
    options_of_an_item().map(lambda options: Item("language", (0,), "ffn", options)),
    min_size=1,
    max_size=4,
)


@given(items_lists, st.floats(0, 1))
def test_an_allocation_fits_every_budget_that_can_be_met(items: list[Item], share: float) -> None:
    least = sum(min(o.cost for o in item.options) for item in items)
    most = sum(max(o.cost for o in item.options) for item in items)
    budget = least + share * (most - least)

    chosen = allocate(items, budget)

    assert sum(option.cost for option in chosen) <= budget + 1e-9
    assert all(option in item.options for option, item in zip(chosen, items, strict=True))


@given(items_lists)
def test_a_budget_below_the_cheapest_options_is_refused(items: list[Item]) -> None:
    least = sum(min(o.cost for o in item.options) for item in items)
    with pytest.raises(BudgetError):
        allocate(items, least - 0.5)


@given(items_lists)
def test_with_budget_for_everything_nothing_is_lost(items: list[Item]) -> None:
    most = sum(max(o.cost for o in item.options) for item in items)
    assert sum(option.loss for option in allocate(items, most)) == 0


@given(items_lists, st.floats(0, 1))
def test_the_loss_is_near_that_of_trying_everything(items: list[Item], share: float) -> None:
    """Greedy on hulls is at most one item's largest step away from the optimum."""
    least = sum(min(o.cost for o in item.options) for item in items)
    most = sum(max(o.cost for o in item.options) for item in items)
    budget = least + share * (most - least)
    best = min(
        sum(o.loss for o in combination)
        for combination in product(*(item.options for item in items))
        if sum(o.cost for o in combination) <= budget + 1e-9
    )

    found = sum(option.loss for option in allocate(items, budget))

    step = max(max(o.loss for o in item.options) for item in items)
    assert best - 1e-9 <= found <= best + step + 1e-9


@given(options_of_an_item())
def test_each_step_along_a_hull_loses_more_per_flop(options: tuple[Option, ...]) -> None:
    hull = convex_hull(options)
    slopes = [(b.loss - a.loss) / (a.cost - b.cost) for a, b in pairwise(hull)]
    assert hull[0].cost == max(o.cost for o in options)
    assert hull[-1].cost <= min(o.cost for o in options) or hull[-1].loss == min(
        o.loss for o in options
    )
    assert all(a <= b + 1e-9 for a, b in pairwise(slopes))


def test_the_cheaper_loss_goes_first_across_towers() -> None:
    cheap = Item("vision", (0,), "ffn", (Option(10, 0, Choice()), Option(5, 0.1, Choice(1))))
    dear = Item("language", (0,), "ffn", (Option(10, 0, Choice()), Option(5, 9.0, Choice(1))))

    assert [option.choice.gone for option in allocate([cheap, dear], 15)] == [1, 0]


@given(items_lists, st.floats(0, 1))
def test_the_exact_allocation_fits_and_loses_no_more_than_greedy(
    items: list[Item], share: float
) -> None:
    """Costs are whole numbers here, so with one step per unit its rounding changes nothing."""
    least = sum(min(o.cost for o in item.options) for item in items)
    most = sum(max(o.cost for o in item.options) for item in items)
    budget = least + round(share * (most - least))

    exact = allocate_exact(items, budget, bins=int(max(1, budget - least)))

    assert sum(option.cost for option in exact) <= budget + 1e-9
    greedy = sum(option.loss for option in allocate(items, budget))
    assert sum(option.loss for option in exact) <= greedy + 1e-9


def test_a_plan_has_one_hash_however_its_json_is_written() -> None:
    plan = Plan(
        architecture="X",
        layout="adaptive",
        target="flops",
        asked=0.5,
        planned=0.499,
        text_tokens=9,
        patches=0,
        towers={"vision": ()},
    )
    shuffled = json.dumps(json.loads(plan.model_dump_json()), sort_keys=True, indent=4)

    assert Plan.model_validate_json(shuffled).sha256 == plan.sha256
    assert plan.model_copy(update={"asked": 0.4}).sha256 != plan.sha256
