from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from compressor.evaluate.answers import FILE, AnswerLog, EvaluationError, questions
from compressor.evaluate.example import Example

ASKED = {"set": [Example(str(n), f"Q{n}?", ("x",), "exact", Image.Image) for n in range(3)]}
WANTED = questions({"a": {}, "b": {}}, ASKED)


def test_models_are_asked_in_turns() -> None:
    asked = [(q.example.id, q.model) for q in WANTED]
    assert asked == [(n, model) for n in "012" for model in "ab"]


def test_what_was_answered_is_not_missing_in_another_run(tmp_path: Path) -> None:
    with AnswerLog(tmp_path / "work") as log:
        log.add(WANTED[0], 'an "odd"\nanswer\u2028é')
        log.add(WANTED[3], "")
    with AnswerLog(tmp_path / "work") as log:
        assert log.missing(WANTED) == [WANTED[1], WANTED[2], *WANTED[4:]]
        assert (log[WANTED[0]], log[WANTED[3]]) == ('an "odd"\nanswer\u2028é', "")


@pytest.mark.parametrize("cut", [1, 20, 1000])
def test_a_torn_line_is_asked_again_and_harms_no_other(tmp_path: Path, cut: int) -> None:
    with AnswerLog(tmp_path) as log:
        log.add(WANTED[0], "whole")
        log.add(WANTED[1], "torn" * 300)
    file = tmp_path / FILE
    file.write_bytes(file.read_bytes()[:-cut])
    with AnswerLog(tmp_path) as log:
        # Without its line's end an answer is whole.
        assert (WANTED[1] in log) == (cut == 1)
        log.add(WANTED[2], "next")
    with AnswerLog(tmp_path) as log:
        assert (log[WANTED[0]], log[WANTED[2]]) == ("whole", "next")


def test_an_answer_counts_for_the_same_prompt_picture_and_settings_only() -> None:
    (base,) = questions({"a": {"tokens": 16}}, {"set": ASKED["set"][:1]})
    others = [
        Example("0", "Other?", ("x",), "exact", Image.Image),
        Example("0", "Q0?", ("x",), "exact", Image.Image, group="another picture"),
    ]
    for other in others:
        (changed,) = questions({"a": {"tokens": 16}}, {"set": [other]})
        assert changed.key != base.key
    (changed,) = questions({"a": {"tokens": 8}}, {"set": ASKED["set"][:1]})
    assert changed.key != base.key
    # Scores are computed afterwards: other answers of people need no other answer of the model.
    rescored = Example("0", "Q0?", ("y", "z"), "vqa", Image.Image)
    (same,) = questions({"a": {"tokens": 16}}, {"set": [rescored]})
    assert same.key == base.key


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(EvaluationError, match=r"kept in .*file.* choose --work"):
        AnswerLog(tmp_path / "file" / "work")
