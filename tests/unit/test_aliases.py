"""An alias's choice: shares, stickiness, who is never asked; simulated over thousands of requests."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.errors import ModelNotFoundError, ModelRetiredError
from service.registry import Snapshot
from service.rollout.records import Shadow
from service.routing.aliases import Choice, choose_model, uniforms
from tests.support.registry import alias, canary, model, snapshot

DRAWS = st.floats(0, 1, exclude_max=True)
SESSIONS = st.none() | st.text(max_size=50)
REQUESTS = 8000
# Five standard deviations of a share of 0.5 over that many requests.
TOLERANCE = 5 * 0.5 / REQUESTS**0.5


def shares(known: Snapshot, name: str, *, sessions: bool) -> dict[str, float]:
    rng = random.Random(7)
    counts = Counter(
        choose_model(
            known, name, session=f"user-{i}" if sessions else None, draw=rng.random()
        ).entry.name
        for i in range(REQUESTS)
    )
    return {chosen: count / REQUESTS for chosen, count in counts.items()}


def test_a_model_is_found_by_its_own_name() -> None:
    known = snapshot("a")
    assert choose_model(known, "a", session="x", draw=0.5) == Choice(known.models["a"])


def test_an_unknown_name_is_told_models_and_aliases() -> None:
    known = snapshot("a", aliases=(alias("prod", a=1),))
    with pytest.raises(ModelNotFoundError, match="models: prod, a"):
        choose_model(known, "b", session=None, draw=0)


def test_a_model_that_was_retired_gets_no_request() -> None:
    known = Snapshot(models={"a": model("a", state="retiring")})
    with pytest.raises(ModelRetiredError, match="'a' was retired"):
        choose_model(known, "a", session=None, draw=0)


@pytest.mark.parametrize("sessions", [True, False])
def test_targets_get_requests_by_weight(sessions: bool) -> None:
    known = snapshot("a", "b", "c", aliases=(alias("prod", a=5, b=3, c=2),))
    found = shares(known, "prod", sessions=sessions)
    assert found == pytest.approx({"a": 0.5, "b": 0.3, "c": 0.2}, abs=TOLERANCE)


@given(SESSIONS.filter(lambda s: s is not None), st.lists(DRAWS, min_size=2, max_size=5))
def test_a_session_stays_with_its_model(session: str, draws: list[float]) -> None:
    known = snapshot("a", "b", aliases=(alias("prod", a=1, b=1),))
    chosen = {choose_model(known, "prod", session=session, draw=d).entry.name for d in draws}
    assert len(chosen) == 1


def test_an_alias_that_is_not_sticky_ignores_sessions() -> None:
    free = alias("prod", a=1, b=1).model_copy(update={"sticky": False})
    known = snapshot("a", "b", aliases=(free,))
    chosen = {choose_model(known, "prod", session="x", draw=d).entry.name for d in (0.1, 0.100001)}
    chosen |= {choose_model(known, "prod", session="x", draw=d / 97).entry.name for d in range(97)}
    assert chosen == {"a", "b"}


def test_a_copied_snapshot_derives_anew_who_is_ready() -> None:
    known = snapshot("a", "b", aliases=(alias("prod", a=1, b=1),))
    assert known.ready_models == {"a", "b"}
    assert known.model_copy(update={"workers": ()}).ready_models == frozenset()


@given(SESSIONS, DRAWS)
def test_a_model_without_a_worker_is_passed_over_while_another_can_answer(
    session: str | None, draw: float
) -> None:
    known = snapshot("a", "b", ready="b", aliases=(alias("prod", a=9, b=1),))
    assert choose_model(known, "prod", session=session, draw=draw).entry.name == "b"


def with_canary(percent: float, *, ready: str = "ab", mirror: float = 0.25) -> Snapshot:
    rules = {"steps": [percent], "mirror": mirror}
    plain = alias("prod", a=1).model_copy(update={"canary": canary(rules=rules)})
    return snapshot("a", "b", ready=ready, aliases=(plain,))


@pytest.mark.parametrize("sessions", [True, False])
@pytest.mark.parametrize("percent", [1.0, 25.0, 100.0])
def test_a_canary_answers_its_share(percent: float, sessions: bool) -> None:
    found = shares(with_canary(percent), "prod", sessions=sessions)
    assert found.get("b", 0) == pytest.approx(percent / 100, abs=TOLERANCE)


@given(st.text(max_size=50), DRAWS, DRAWS)
def test_a_session_that_came_to_the_canary_stays_as_it_climbs(
    session: str, draw: float, other: float
) -> None:
    before = choose_model(with_canary(5), "prod", session=session, draw=draw).entry.name
    after = choose_model(with_canary(25), "prod", session=session, draw=other).entry.name
    assert (before, after) in {("a", "a"), ("a", "b"), ("b", "b")}


@given(SESSIONS, DRAWS)
def test_a_canary_without_a_worker_costs_no_request(session: str | None, draw: float) -> None:
    choice = choose_model(with_canary(100, ready="a"), "prod", session=session, draw=draw)
    assert (choice.entry.name, choice.shadow) == ("a", None)


@given(SESSIONS, DRAWS)
def test_the_other_model_of_the_pair_gets_the_copy(session: str | None, draw: float) -> None:
    choice = choose_model(with_canary(50, mirror=1.0), "prod", session=session, draw=draw)
    assert choice.shadow is not None
    assert {choice.entry.name, choice.shadow.name} == {"a", "b"}


@pytest.mark.parametrize("sessions", [True, False])
def test_a_shadow_gets_copies_of_its_share_and_answers_nobody(sessions: bool) -> None:
    plain = alias("prod", a=1, b=1).model_copy(update={"shadow": Shadow(candidate="c", share=0.3)})
    known = snapshot("a", "b", "c", aliases=(plain,))
    rng = random.Random(3)
    choices = [
        choose_model(known, "prod", session=f"u{i}" if sessions else None, draw=rng.random())
        for i in range(REQUESTS)
    ]
    copied = [c for c in choices if c.shadow is not None]
    assert len(copied) / REQUESTS == pytest.approx(0.3, abs=TOLERANCE)
    assert {c.entry.name for c in choices} == {"a", "b"}
    # Which requests are copied does not depend on who answers them.
    share_of_a = sum(c.entry.name == "a" for c in copied) / len(copied)
    assert share_of_a == pytest.approx(0.5, abs=5 * 0.5 / len(copied) ** 0.5)


@given(SESSIONS, DRAWS)
def test_every_draw_is_a_uniform(session: str | None, draw: float) -> None:
    assert all(0 <= u < 1 for u in uniforms(alias("prod", a=1), session, draw))
