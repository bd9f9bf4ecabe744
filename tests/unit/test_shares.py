"""Limits of a key that several gateways hold together: bounds by property and by simulation."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.gateway.auth import Held
from service.gateway.ledger import Heard
from service.routing.rate import Rate, admit
from service.routing.shares import (
    EXCHANGE_S,
    alone,
    ceiling,
    most_at_once,
    most_in_window,
    share,
)
from tests.unit.test_auth import key

COUNTS = st.integers(0, 200)
GATEWAYS = st.integers(1, 9)


@given(st.integers(1, 100), COUNTS, COUNTS, GATEWAYS)
def test_a_gateway_takes_no_more_than_is_free_as_far_as_it_knows(
    most: int, own: int, others: int, gateways: int
) -> None:
    allowed = ceiling(most, own, others, gateways)
    assert allowed + others <= max(most, own + others)
    assert allowed > own or own + others >= most, "what is free can be had"


@given(st.integers(1, 100), st.lists(COUNTS, min_size=2, max_size=9))
def test_gateways_that_know_of_each_other_share_what_is_free(most: int, own: list[int]) -> None:
    """Deciding at the same moment they pass the limit by less than one each."""
    gateways, total = len(own), sum(own)
    told = [ceiling(most, one, total - one, gateways) for one in own]
    if all(total - one for one in own):
        assert sum(told) <= max(total, most + gateways - 1)


@given(st.integers(1, 100), st.floats(1, 6000), GATEWAYS)
def test_shares_of_gateways_that_hear_nothing_add_up_to_the_limit(
    most: int, per_minute: float, gateways: int
) -> None:
    assert share(most, gateways) * gateways <= max(most, gateways)
    rate = Rate(per_minute, max(1.0, per_minute / 60))
    own = alone(rate, gateways)
    assert own.per_minute * gateways == pytest.approx(per_minute)
    assert own.burst * gateways <= max(rate.burst, gateways) * (1 + 1e-9)


class Account:
    """The account in Redis, in the simulation's own time."""

    def __init__(self) -> None:
        self.due = 0.0

    def exchange(self, now: float, spent_s: float) -> float:
        self.due = max(self.due, now) + spent_s
        return self.due - now


@pytest.mark.parametrize("seed", range(12))
def test_simulation_no_window_holds_more_than_is_promised(seed: int) -> None:
    """Gateways with moods: asleep, at the full rate, in bursts; windows of every length."""
    draw = random.Random(seed)
    gateways, burst = draw.randint(2, 4), draw.choice([1.0, 5.0, 20.0])
    rate, account = Rate(draw.choice([30.0, 600.0, 3000.0]), burst), Account()
    due, spent = [0.0] * gateways, [0] * gateways
    heard = [draw.uniform(0, EXCHANGE_S) for _ in range(gateways)]
    mood = [0.0] * gateways
    admitted: list[float] = []
    step = 0.02
    for tick in range(int(60 / step)):
        now = tick * step
        for g in range(gateways):
            if draw.random() < 0.01:
                mood[g] = draw.choice([0.0, 0.0, 0.5, 3.0, 40.0])
            for _ in range(int(mood[g] + draw.random())):
                due[g], wait = admit(rate, due[g], now)
                if not wait:
                    spent[g] += 1
                    admitted.append(now)
            if now - heard[g] >= EXCHANGE_S:
                heard[g] = now
                due[g] = now + account.exchange(now, spent[g] * rate.interval_s)
                spent[g] = 0
    for first in range(0, len(admitted), 7):
        for last in range(first, len(admitted), 5):
            window = admitted[last] - admitted[first]
            promised = most_in_window(rate, gateways, window, EXCHANGE_S + step)
            assert last - first + 1 <= promised + 1e-6
    # Over the whole minute the debt has been paid.
    assert len(admitted) <= most_in_window(rate, gateways, 60.0)


def test_a_key_goes_by_what_others_have_and_alone_by_its_share() -> None:
    held = Held(key("inference", requests_per_minute=600, max_concurrent=8), 2)
    assert held.ceiling == 8
    held.active = 2
    held.hear(Heard(ahead_s=0.5, others=4), 2, now=100.0)
    assert (held.ceiling, held.due) == (3, 100.5)
    held.spent = 3
    held.hear(Heard(ahead_s=0.5, others=8), 2, now=100.0)
    assert held.ceiling == 2
    assert held.due == pytest.approx(100.8)
    held.hear_nothing(2)
    assert held.rate is not None
    assert (held.ceiling, held.rate.per_minute) == (4, 300.0)
    held.rest(1)
    assert (held.ceiling, held.rate.per_minute) == (8, 600)
    assert most_at_once(8, 2) == 16


def test_what_was_spent_is_told_once_and_a_key_at_rest_not_at_all() -> None:
    held = Held(key("inference", requests_per_minute=60), 1)
    assert not held.in_use(now=1.0)
    held.spent, held.due = 4, 6.0
    assert held.use().spent_s == 4.0
    assert held.use().spent_s == 0.0
    assert held.in_use(now=5.0), "its account is not at rest"
    assert not held.in_use(now=7.0)
    assert not Held(key("inference"), 1).in_use(now=1.0)
