"""Which worker answers: properties, and a simulation of thousands of requests."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from service.routing.balance import SLACK, choose, image_key


@dataclass
class Worker:
    """A candidate of the tests."""

    id: str
    in_flight: int = 0
    seen: set[bytes] = field(default_factory=set)


LOADS = st.lists(st.integers(0, 20), min_size=1, max_size=8)
IMAGES = st.one_of(st.none(), st.binary(min_size=1, max_size=16))


def workers(loads: list[int]) -> list[Worker]:
    return [Worker(f"w{i}", load) for i, load in enumerate(loads)]


def test_without_candidates_there_is_no_choice() -> None:
    assert choose([], b"image") is None


@given(LOADS, IMAGES)
def test_nobody_gets_much_more_than_the_least_loaded(loads: list[int], image: bytes | None) -> None:
    chosen = choose(workers(loads), image)
    assert chosen is not None
    assert chosen.in_flight <= min(loads) + (SLACK if image else 0)


@given(LOADS, IMAGES, st.randoms())
def test_the_order_of_the_candidates_does_not_matter(
    loads: list[int], image: bytes | None, shuffler: random.Random
) -> None:
    found = workers(loads)
    first = choose(found, image)
    shuffler.shuffle(found)
    assert choose(found, image) is first


@given(st.integers(2, 8), st.binary(min_size=1), st.data())
def test_a_worker_that_leaves_moves_only_its_own_images(
    count: int, image: bytes, data: st.DataObject
) -> None:
    idle = workers([0] * count)
    owner = choose(idle, image)
    gone = data.draw(st.sampled_from(idle))
    rest = [worker for worker in idle if worker is not gone]
    if gone is not owner:
        assert choose(rest, image) is owner


def test_images_are_spread_evenly() -> None:
    idle = workers([0] * 3)
    owners = Counter(
        owner.id
        for i in range(3000)
        if (owner := choose(idle, image_key(f"image {i}"))) is not None
    )
    assert all(900 < count < 1100 for count in owners.values())


def test_images_that_differ_in_length_or_ends_have_keys_of_their_own() -> None:
    long = "x" * 100_000
    keys = {image_key(data) for data in ("", "a", long, long + "y", "y" + long, long.encode())}
    assert len(keys) == 5, "text and its bytes are the same image"


def simulate(image_of: object, requests: int = 5000) -> tuple[float, int]:
    """Random arrivals at three workers; share of images met again, largest difference of loads."""
    draw = random.Random(7)
    pool = workers([0] * 3)
    running: list[tuple[float, Worker]] = []
    hits = spread = 0
    now = 0.0
    for _ in range(requests):
        now += draw.expovariate(1.0)
        for ends, worker in [pair for pair in running if pair[0] <= now]:
            running.remove((ends, worker))
            worker.in_flight -= 1
        image = image_key(f"{draw.randrange(200)}") if image_of else None
        chosen = choose(pool, image)
        assert chosen is not None
        if image is not None:
            hits += image in chosen.seen
            chosen.seen.add(image)
        chosen.in_flight += 1
        running.append((now + draw.expovariate(1 / 2.4), chosen))
        loads = [worker.in_flight for worker in pool]
        spread = max(spread, max(loads) - min(loads))
    return hits / requests, spread


def test_simulation_images_mostly_meet_a_warm_cache_and_loads_stay_close() -> None:
    hits, spread = simulate(image_of=True)
    assert hits > 0.9
    # One more than the slack as it is chosen; departures may widen it by chance.
    assert spread <= SLACK + 6
    _, plain = simulate(image_of=None)
    assert plain <= 6
