from __future__ import annotations

from service.ages import Ages


def test_an_age_counts_from_first_sight_whatever_a_clock_on_the_wall_says() -> None:
    now = 100.0
    ages = Ages(lambda: now)
    assert ages.of("a") == 0.0
    assert ages.of("b", claimed_s=7.0) == 7.0
    assert ages.of("c", claimed_s=-3600.0) == 0.0, "it began in the future: the clock was set back"
    now = 110.0
    assert (ages.of("a"), ages.of("b", claimed_s=9999.0)) == (10.0, 17.0)


def test_what_is_forgotten_or_changes_its_state_is_new() -> None:
    now = 0.0
    ages = Ages(lambda: now)
    ages.of(("a", "running"))
    ages.of(("b", "running"))
    now = 5.0
    ages.keep([("a", "running")])
    assert ages.of(("a", "running")) == 5.0
    assert ages.of(("b", "running")) == ages.of(("a", "queued")) == 0.0
