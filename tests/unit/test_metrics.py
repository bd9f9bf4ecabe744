from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compressor.errors import DatasetError
from compressor.evaluate.datasets import examples
from compressor.evaluate.generated.canvas import SPLITS
from compressor.evaluate.metrics import bootstrap, exact_match


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
