"""Changes of an alias, one after another."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.errors import AliasStateError, UnknownTargetError
from service.rollout import changes
from service.rollout.records import FORMER_KEPT, Alias, CanaryRules, Setting, Shadow, Target
from tests.support.registry import alias

RULES = CanaryRules()


def to(model: str) -> Setting:
    return Setting(targets=(Target(model=model),))


def climbing(times: int = 0) -> Alias:
    found = changes.start_canary(alias("prod", a=1), "b", RULES, now=1.0)
    for number in range(times):
        found = changes.climb(found, answers=100 * number, now=2.0 + number)
    return found


@given(st.lists(st.sampled_from("abc"), max_size=30))
def test_as_many_roll_backs_as_changes_restore_the_first_state(models: list[str]) -> None:
    first = alias("prod", a=1)
    found, changed = first, 0
    for model in models:
        after = changes.set_targets(found, to(model), now=1.0)
        changed += after.setting != found.setting
        found = after
    for _ in range(min(changed, FORMER_KEPT)):
        found = changes.roll_back(found, now=2.0)
    if changed <= FORMER_KEPT:
        assert found.setting == first.setting
        with pytest.raises(AliasStateError, match="no former state"):
            changes.roll_back(found, now=3.0)
    assert found.version >= 1 + changed


def test_a_promotion_can_be_rolled_back() -> None:
    promoted = changes.promote(alias("prod", a=1, b=3), "b", now=1.0)
    assert [t.model for t in promoted.targets] == ["b"]
    assert changes.roll_back(promoted, now=2.0).targets == alias("prod", a=1, b=3).targets


def test_a_canary_climbs_to_its_last_step_and_is_promoted() -> None:
    top = climbing(len(RULES.steps) - 1)
    assert top.canary is not None
    assert top.canary.percent == 100
    with pytest.raises(AliasStateError, match="at its last step"):
        changes.climb(top, answers=0, now=9.0)

    done = changes.finish_canary(top, "It held.", now=10.0)

    assert (done.canary, [t.model for t in done.targets]) == (None, ["b"])
    assert done.last_canary is not None
    assert (done.last_canary.outcome, done.last_canary.reason) == ("promoted", "It held.")
    assert [t.model for t in changes.roll_back(done, now=11.0).targets] == ["a"]


def test_rolling_back_a_running_canary_ends_it_and_changes_no_target() -> None:
    back = changes.roll_back(climbing(2), now=9.0)
    assert (back.canary, [t.model for t in back.targets]) == (None, ["a"])
    assert back.last_canary is not None
    assert (back.last_canary.outcome, back.last_canary.percent) == ("stopped", 25.0)


def test_why_a_canary_was_rolled_back_is_kept_with_it() -> None:
    back = changes.roll_back(climbing(2), "too slow", now=9.0)
    assert back.last_canary is not None
    assert back.last_canary.reason == "Rolled back by hand: too slow"


def test_a_step_counts_its_own_answers() -> None:
    found = changes.climb(climbing(), answers=345, now=7.0)
    assert found.canary is not None
    assert (found.canary.step_base, found.canary.step_started) == (345, 7.0)


@pytest.mark.parametrize(
    "change",
    [
        lambda a: changes.set_targets(a, to("c"), now=1.0),
        lambda a: changes.set_shadow(a, Shadow(candidate="c"), now=1.0),
        lambda a: changes.promote(a, "c", now=1.0),
        lambda a: changes.start_canary(a, "c", RULES, now=1.0),
    ],
)
def test_nothing_else_changes_while_a_canary_runs(change: object) -> None:
    assert callable(change)
    with pytest.raises(AliasStateError, match="A canary of 'b' is running on 'prod'"):
        change(climbing())


def test_a_canary_needs_one_reference_another_candidate_and_ascending_steps() -> None:
    with pytest.raises(AliasStateError, match="has 2 targets"):
        changes.start_canary(alias("prod", a=1, b=1), "c", RULES, now=1.0)
    with pytest.raises(AliasStateError, match="'a' is what answers 'prod'"):
        changes.start_canary(alias("prod", a=1), "a", RULES, now=1.0)
    with pytest.raises(AliasStateError, match="must ascend"):
        changes.start_canary(alias("prod", a=1), "b", CanaryRules(steps=(5, 1)), now=1.0)


def test_a_shadow_is_another_model_than_the_targets_and_ends_with_its_promotion() -> None:
    with pytest.raises(AliasStateError, match="answers 'prod' already"):
        changes.set_shadow(alias("prod", a=1), Shadow(candidate="a"), now=1.0)
    shadowed = changes.set_shadow(alias("prod", a=1), Shadow(candidate="b"), now=1.0)
    assert shadowed.models == {"a", "b"}
    assert changes.promote(shadowed, "b", now=2.0).shadow is None


def test_targets_must_be_active_and_different() -> None:
    with pytest.raises(UnknownTargetError, match="'b' is not registered or was retired"):
        changes.check_targets(alias("prod", a=1, b=1), {"a"})
    twice = Alias(name="prod", targets=(Target(model="a"), Target(model="a")))
    with pytest.raises(AliasStateError, match="names a model twice"):
        changes.check_targets(twice, {"a"})
