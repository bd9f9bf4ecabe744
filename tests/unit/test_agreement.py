from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.routing.agreement import compare


@pytest.mark.parametrize(
    ("first", "second", "judged"),
    [
        ("yes", " Yes. ", 1.0),
        ("two", "2", 1.0),
        ("a red square", "red square", 1.0),
        ("red", "blue", 0.0),
        ("", "", 1.0),
        ("", "red", 0.0),
    ],
)
def test_short_answers_agree_as_vqa_counts_them(first: str, second: str, judged: float) -> None:
    assert compare(first, second).judged == judged


def test_long_answers_agree_by_the_words_that_both_have() -> None:
    found = compare(
        "The sign over the door says open all night.",
        "The sign near the door says closed at night.",
    )
    assert (found.exact, found.vqa) == (0.0, 0.0)
    # sign over door says open all night / sign near door says closed at night: 4 of 7 in both
    assert found.judged == found.token == pytest.approx(4 / 7)


@given(st.text(max_size=60), st.text(max_size=60))
def test_agreement_is_symmetric_and_a_share(first: str, second: str) -> None:
    found, other = compare(first, second), compare(second, first)
    assert found == other
    assert all(0 <= x <= 1 for x in (found.exact, found.vqa, found.token, found.judged))


@given(st.text(max_size=60))
def test_a_text_agrees_with_itself(text: str) -> None:
    found = compare(text, text)
    assert (found.exact, found.vqa, found.token, found.judged) == (1.0, 1.0, 1.0, 1.0)
