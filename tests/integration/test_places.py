"""A limit on jobs that all runners share: the places that they take."""

from __future__ import annotations

import time

from redis import Redis

from service.jobs.places import PLACES_KEY, Place


def test_there_are_no_more_places_than_the_limit_and_a_dead_runners_comes_back(
    redis: Redis,
) -> None:
    first, second, third = (Place(redis, name, 2, lasts_s=0.4) for name in "abc")
    assert [first.take(), second.take(), third.take()] == [True, True, False]
    assert first.take(), "its own is renewed"
    second.leave()
    assert third.take()
    time.sleep(0.5)  # the first renews nothing: it is dead
    assert [second.take(), third.take(), first.take()] == [True, True, False]


def test_a_place_outlives_no_clock_that_was_set_back(redis: Redis) -> None:
    redis.zadd(PLACES_KEY, {"dead": 1000 * (time.time() + 3600)})
    place = Place(redis, "a", 1, lasts_s=0.3)
    assert not place.take()
    time.sleep(0.4)
    assert place.take()
