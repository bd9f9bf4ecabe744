from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from service.routing.breaker import (
    CLOSED,
    EJECTED_AFTER,
    LONGEST_OPEN_S,
    OPENS_AFTER,
    RETURNS_AFTER,
    Breaker,
    Health,
)


def opened(now: float = 0.0) -> Breaker:
    breaker = CLOSED
    for _ in range(OPENS_AFTER):
        assert breaker.allows(now, 5)
        breaker = breaker.after_failure(now)
    return breaker


def test_failures_in_a_row_open_it_and_a_success_between_does_not() -> None:
    assert not opened().allows(0.5, 0)
    breaker = CLOSED
    for _ in range(10 * OPENS_AFTER):
        breaker = breaker.after_failure(0.0).after_success()
    assert breaker.allows(0.0, 9)


def test_after_a_pause_one_request_is_let_through_on_trial() -> None:
    breaker = opened()
    assert breaker.allows(1.0, in_flight=0)
    assert not breaker.allows(1.0, in_flight=1)
    assert breaker.after_success().allows(1.0, in_flight=7)


def test_a_failed_trial_doubles_the_pause() -> None:
    breaker = opened().after_failure(1.0)
    assert not breaker.allows(2.9, 0)
    assert breaker.allows(3.0, 0)


def test_failures_that_were_under_way_when_it_opened_do_not_prolong_it() -> None:
    breaker = opened()
    assert breaker.after_failure(0.5) == breaker


@given(st.lists(st.tuples(st.booleans(), st.floats(0, 1000)), max_size=60))
def test_it_is_never_closed_for_longer_than_the_longest_pause(
    events: list[tuple[bool, float]],
) -> None:
    breaker, now = CLOSED, 0.0
    for good, wait in events:
        now += wait
        breaker = breaker.after_success() if good else breaker.after_failure(now)
        assert breaker.allows(now + LONGEST_OPEN_S, 0)
        if good:
            assert breaker == CLOSED


def test_probes_eject_and_bring_back_only_several_in_a_row() -> None:
    health = Health()
    for _ in range(EJECTED_AFTER - 1):
        health = health.after_probe(answered=False)
    assert not health.ejected
    assert not health.after_probe(answered=True).after_probe(answered=False).ejected
    health = health.after_probe(answered=False)
    assert health.ejected
    for _ in range(RETURNS_AFTER - 1):
        health = health.after_probe(answered=True)
    assert health.ejected
    assert health.after_probe(answered=True) == Health()


def test_a_refused_connection_ejects_at_once() -> None:
    assert Health().after_refusal().ejected


@given(st.lists(st.booleans()))
def test_a_state_changes_only_after_a_run_of_contrary_probes(probes: list[bool]) -> None:
    health = Health()
    for i, answered in enumerate(probes):
        after = health.after_probe(answered=answered)
        if after.ejected != health.ejected:
            needed = EJECTED_AFTER if after.ejected else RETURNS_AFTER
            assert probes[i + 1 - needed : i + 1] == [not after.ejected] * needed
        health = after
