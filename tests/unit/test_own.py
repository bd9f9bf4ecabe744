from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from compressor.errors import DatasetError
from compressor.evaluate.datasets import examples
from compressor.evaluate.generated.canvas import SPLITS


def write(path: Path, rows: list[Any]) -> str:
    for row in rows:
        if isinstance(row, dict) and "image" in row:
            file = path.parent / row["image"]
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (4, 3), "red").save(file)
    path.write_text("\n".join(r if isinstance(r, str) else json.dumps(r) for r in rows) + "\n")
    return str(path)


def row(image: str = "a.png", **more: Any) -> dict[str, Any]:
    return {"image": image, "question": "What?", "answer": "red", **more}


def test_images_lie_relative_to_the_file(tmp_path: Path) -> None:
    name = write(tmp_path / "own.jsonl", [row("sub/a.png", split="test", id="q7")])
    (found,) = examples(name, "test")
    assert (found.id, found.answers, found.metric) == ("q7", ("red",), "exact")
    assert found.file == tmp_path / "sub" / "a.png"
    assert found.image().getpixel((0, 0)) == (255, 0, 0)


def test_several_answers_are_scored_softly(tmp_path: Path) -> None:
    line = {"image": "a.png", "question": "?", "answers": ["red", "crimson"], "split": "test"}
    (found,) = examples(write(tmp_path / "own.jsonl", [line]), "test")
    assert (found.answers, found.metric) == (("red", "crimson"), "vqa")


def test_without_splits_a_picture_is_in_one_of_them_and_training_gets_half(tmp_path: Path) -> None:
    name = write(tmp_path / "own.jsonl", [row(f"{n // 2}.png") for n in range(400)])
    parts = [examples(name, split) for split in SPLITS]
    assert [len(part) for part in parts] == pytest.approx([200, 100, 100], abs=40)
    pictures = [{e.group for e in part} for part in parts]
    assert len(set.union(*pictures)) == sum(map(len, pictures)) == 200
    assert len({e.id for part in parts for e in part}) == 400


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([row(), '{"image": "a.png"'], "Line 2 of .* is malformed: it is not JSON"),
        ([{"image": "a.png", "answer": "x"}], "Line 1 .* the key 'question' is missing"),
        (["", row(), row(answer=3)], "Line 3 .* expected `str"),
        ([row(anwser="x")], "Line 1 .* unknown field `anwser`"),
        ([row(split="dev")], "Line 1 .* invalid enum value 'dev'"),
        ([row(split="test"), row()], "names a split in some lines only"),
        ([row(split="test", id=1), row(split="test", id="1")], "two questions with the id '1'"),
        ([row(split="test", answers=["x"])], "Line 1 .* either 'answer' or a list of 'answers'"),
        ([{"image": "a.png", "question": "?", "split": "test"}], "Line 1 .* needs either"),
        ([row(split="train")], "no questions in its test split"),
        (["[1]"], "Line 1 .* is malformed"),
    ],
)
def test_a_malformed_file_gives_one_sentence(
    tmp_path: Path, lines: list[Any], message: str
) -> None:
    name = write(tmp_path / "own.jsonl", lines)
    with pytest.raises(DatasetError, match=message) as caught:
        examples(name, "test")
    assert "\n" not in str(caught.value)
    assert str(caught.value).endswith(".")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"There is no dataset .*own\.jsonl"):
        examples(str(tmp_path / "own.jsonl"), "test")
