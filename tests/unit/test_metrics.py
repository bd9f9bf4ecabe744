from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compressor.errors import DatasetError
from compressor.evaluate.datasets import examples
from compressor.evaluate.generated.canvas import SPLITS
from compressor.evaluate.metrics import (
    Interval,
    bootstrap,
    cautious_difference,
    exact_match,
    mean_difference,
)


@pytest.mark.parametrize(
    ("prediction", "score"), [("Yes", 1), (" yes.\n", 1), ("yes it is", 0), ("", 0), ("no", 0)]
)
def test_exact_match_forgives_case_and_a_full_stop_only(prediction: str, score: float) -> None:
    assert exact_match(prediction, "yes") == score


@given(st.lists(st.sampled_from([0.0, 1.0]), min_size=1, max_size=60))
def test_an_interval_holds_its_mean(scores: list[float]) -> None:
    interval = bootstrap(scores)
    assert interval.low - 1e-9 <= interval.value <= interval.high + 1e-9
    assert interval.n == len(scores)


def test_an_interval_has_the_width_of_its_standard_error() -> None:
    interval = bootstrap([0.0, 1.0] * 200)
    error = (0.25 / 400) ** 0.5
    assert interval.high - interval.low == pytest.approx(2 * 1.96 * error, rel=0.1)


@pytest.mark.parametrize("name", ["easy-vqa", "drawn-text", "drawn-scenes"])
def test_the_same_seed_draws_the_same_questions(name: str) -> None:
    first = _asked(name, seed=4)
    assert first == _asked(name, seed=4)
    assert first != _asked(name, seed=5)
    assert len({number for number, _, _ in first}) == 20


@pytest.mark.parametrize("name", ["easy-vqa", "drawn-text", "drawn-scenes"])
def test_splits_have_no_question_about_one_picture(name: str) -> None:
    train, validation, test = (
        {example.png() for example in examples(name, split, samples=40, seed=1)} for split in SPLITS
    )
    assert not train & validation
    assert not train & test
    assert not validation & test


def _asked(name: str, *, seed: int) -> list[tuple[str, str, bytes]]:
    found = examples(name, "test", samples=20, seed=seed)
    return [(example.id, example.question, example.png()) for example in found]


def test_an_unknown_dataset_is_told_what_is_known() -> None:
    with pytest.raises(DatasetError, match="known: easy-vqa"):
        examples("vqa-v3", "test")


def test_answers_about_few_pictures_say_less_than_as_many_about_many() -> None:
    scores = [float(picture % 2) for picture in range(40) for _ in range(10)]
    pictures = [str(picture) for picture in range(40) for _ in range(10)]
    alone, grouped = bootstrap(scores), bootstrap(scores, groups=pictures)
    assert (grouped.value, grouped.n) == (alone.value, 400)
    # All ten answers about a picture agree: as if only 40 questions had been asked.
    ratio = (grouped.high - grouped.low) / (alone.high - alone.low)
    assert ratio == pytest.approx(10**0.5, rel=0.15)


@given(st.lists(st.sampled_from([0.0, 0.3, 1.0]), min_size=1, max_size=30))
def test_groups_of_one_change_nothing(scores: list[float]) -> None:
    # In the order of their names, as groups are drawn.
    groups = [f"{number:03d}" for number in range(len(scores))]
    single, grouped = bootstrap(scores), bootstrap(scores, groups=groups)
    assert (grouped.low, grouped.high) == pytest.approx((single.low, single.high))


def test_pictures_of_unequal_weight_keep_the_mean_over_questions() -> None:
    interval = bootstrap([1.0] * 9 + [0.0], groups=["a"] * 9 + ["b"])
    assert interval.value == pytest.approx(0.9)
    assert (interval.low, interval.high) == (0, 1)  # only a, or only b, is drawn now and then


def test_a_large_split_is_resampled_in_bounded_memory() -> None:
    scores = np.random.default_rng(0).integers(0, 2, 30_000).astype(float)
    interval = bootstrap(scores.tolist())
    assert interval.high - interval.low == pytest.approx(2 * 1.96 * 0.5 / 30_000**0.5, rel=0.1)


SCORES = st.lists(st.sampled_from([0.0, 0.6, 1.0]), min_size=1, max_size=20)


@given(SCORES, SCORES, st.integers(0, 5))
def test_the_mean_difference_is_paired_and_weighs_datasets_alike(
    few: list[float], many: list[float], seed: int
) -> None:
    before = {"few": few, "many": many}
    after = {"few": [1 - s for s in few], "many": many}
    found = mean_difference(before, after, seed=seed)
    assert found.value == pytest.approx(float(np.mean([1 - 2 * s for s in few])) / 2)
    assert found.n == len(few) + len(many)
    assert found.low - 1e-9 <= found.value <= found.high + 1e-9
    turned = mean_difference(after, before, seed=seed)
    assert (turned.low, turned.high) == pytest.approx((-found.high, -found.low))
    other_order = mean_difference(dict(reversed(before.items())), after, seed=seed)
    assert other_order == found
    assert mean_difference(before, before) == Interval(0, 0, 0, found.n)


def test_the_mean_difference_uses_pictures() -> None:
    before = {"a": [0.0] * 400}
    after = {"a": [float(picture % 2) for picture in range(40) for _ in range(10)]}
    groups = {"a": [str(picture) for picture in range(40) for _ in range(10)]}
    wide, narrow = mean_difference(before, after, groups=groups), mean_difference(before, after)
    assert wide.high - wide.low > 2.5 * (narrow.high - narrow.low)


@pytest.mark.parametrize(("questions", "least"), [(50, -0.04), (1000, -0.002)])
def test_no_changed_answer_of_few_is_no_proof(questions: int, least: float) -> None:
    """The rule of three: of n questions without a change 3 / n may still be lost."""
    same, groups = {"a": [1.0] * questions}, {"a": [str(n) for n in range(questions)]}
    assert mean_difference(same, same, groups=groups).low == 0
    found = cautious_difference(same, same, groups=groups)
    assert (found.value, found.high) == (0, 0)
    assert -4 / questions < found.low <= least


def test_the_picture_that_is_counted_in_has_as_many_questions_as_one_has_on_the_mean() -> None:
    same = {"a": [1.0] * 60}
    nearly_one, three = ({"a": [str(n // k) for n in range(60)]} for k in (1, 3))
    nearly_one["a"][1] = nearly_one["a"][0]
    lows = [cautious_difference(same, same, groups=g).low for g in (nearly_one, three)]
    assert lows[0] > -4 / 60
    assert lows[1] < 2 * lows[0]


def test_caution_matters_little_where_answers_change() -> None:
    rng = np.random.default_rng(0)
    before, groups = {"a": [0.5] * 4000}, {"a": [str(n // 2) for n in range(4000)]}
    after = {"a": rng.choice([0.0, 0.5, 1.0], size=4000).tolist()}
    plain = mean_difference(before, after, groups=groups)
    cautious = cautious_difference(before, after, groups=groups)
    assert plain.low - 0.002 < cautious.low <= plain.low


def test_models_that_were_asked_differently_cannot_be_paired() -> None:
    with pytest.raises(ValueError, match="Datasets differ"):
        mean_difference({"a": [1.0]}, {"b": [1.0]})
    with pytest.raises(ValueError, match="zip"):
        mean_difference({"a": [1.0]}, {"a": [1.0, 0.0]})
    with pytest.raises(ValueError, match="1 groups were given for 2 questions"):
        bootstrap([1.0, 0.0], groups=["a"])
