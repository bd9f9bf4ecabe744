"""Loaders of published files, on tiny files of the published formats."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from compressor.errors import DatasetError
from compressor.evaluate.datasets import Example, examples
from compressor.evaluate.generated.canvas import SPLITS

TEN = ["net"] * 7 + ["nets", "a net", "racket"]


def write(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def picture(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", (4, 3), 128).save(path)


def vqav2(root: Path, part: str, ids: range) -> None:
    questions = [
        {"image_id": n // 10, "question": f"Q{n}?", "question_id": n, "extra": 1} for n in ids
    ]
    annotations = [
        {
            "question_type": "what",
            "multiple_choice_answer": "net",
            "answers": [
                {"answer": a, "answer_confidence": "yes", "answer_id": k}
                for k, a in enumerate(TEN, 1)
            ],
            "image_id": n // 10,
            "answer_type": "other",
            "question_id": n,
        }
        for n in reversed(ids)  # not in the questions' order
    ]
    head = {"info": {}, "license": {}, "data_type": "mscoco", "data_subtype": part}
    write(root / f"v2_OpenEnded_mscoco_{part}_questions.json", {**head, "questions": questions})
    write(root / f"v2_mscoco_{part}_annotations.json", {**head, "annotations": annotations})
    for image in {n // 10 for n in ids}:
        picture(root / part / f"COCO_{part}_{image:012d}.jpg")


def textvqa(root: Path, part: str, ids: range) -> None:
    data = [
        {
            "question": f"Q{n}?",
            "image_id": f"{n // 2:016x}",
            "image_classes": ["Belt"],
            "image_width": 4,
            "image_height": 3,
            "answers": TEN,
            "question_tokens": ["q"],
            "question_id": n,
            "set_name": part,
        }
        for n in ids
    ]
    write(root / f"TextVQA_0.5.1_{part}.json", {"dataset_name": "textvqa", "data": data})
    for n in ids:
        picture(root / "train_images" / f"{n // 2:016x}.jpg")


def gqa(root: Path, part: str, count: int) -> None:
    rows = {
        f"20{n:04d}": {
            "semantic": [],
            "isBalanced": True,
            "imageId": f"n{n // 3}",
            "question": f"Q{n}?",
            "answer": "yes",
            "types": {},
        }
        for n in range(count)
    }
    write(root / f"{part}_balanced_questions.json", rows)
    for n in range(count):
        picture(root / "images" / f"n{n // 3}.jpg")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A directory with all three."""
    vqav2(tmp_path, "train2014", range(90, 93))
    vqav2(tmp_path, "val2014", range(2620000, 2620040))
    textvqa(tmp_path, "train", range(5))
    textvqa(tmp_path, "val", range(34602, 34642))
    for part, count in (("train", 6), ("val", 4), ("testdev", 5)):
        gqa(tmp_path, part, count)
    return tmp_path


@pytest.mark.parametrize("kind", ["vqav2", "textvqa"])
def test_the_published_validation_split_gives_validation_and_test(root: Path, kind: str) -> None:
    train, validation, test = (examples(f"{kind}:{root}", split) for split in SPLITS)
    parts = [{e.id for e in part} for part in (train, validation, test)]
    assert not parts[1] & parts[2]
    assert len(parts[1] | parts[2]) == 40
    assert min(len(parts[1]), len(parts[2])) >= 10  # about half
    assert not parts[0] & (parts[1] | parts[2])


def test_the_halves_are_the_same_on_every_machine(root: Path) -> None:
    found = examples(f"vqav2:{root}", "validation")[:3]
    assert [e.id for e in found] == ["2620000", "2620001", "2620003"]


def test_a_vqav2_question_is_what_the_files_say(root: Path) -> None:
    (first, *_) = examples(f"vqav2:{root}", "train")
    assert (first.id, first.question, first.metric) == ("90", "Q90?", "vqa")
    assert first.answers == tuple(TEN)
    assert first.file == root / "train2014" / "COCO_train2014_000000000009.jpg"
    assert (first.image().mode, first.image().size) == ("RGB", (4, 3))


def test_a_textvqa_question_is_asked_without_ocr_tokens(root: Path) -> None:
    (first, *_) = examples(f"textvqa:{root}", "train")
    assert first.prompt == "Q0?\nAnswer the question using a single word or phrase."
    assert (first.metric, len(first.answers), first.answer) == ("vqa", 10, "net")
    assert first.file == root / "train_images" / "0000000000000000.jpg"


def test_gqa_has_its_own_splits_and_testdev_is_the_test(root: Path) -> None:
    sizes = [len(examples(f"gqa:{root}", split)) for split in SPLITS]
    assert sizes == [6, 4, 5]
    (first, *_) = examples(f"gqa:{root}", "test")
    assert (first.id, first.answers, first.metric) == ("200000", ("yes",), "exact")


def groups(found: list[Example]) -> int:
    return len({e.group for e in found})


def test_questions_about_one_picture_are_one_group(root: Path) -> None:
    assert groups(examples(f"vqav2:{root}", "train")) == 1
    assert groups(examples(f"gqa:{root}", "test")) == 2
    drawn = examples("drawn-scenes", "validation", samples=100, seed=0)
    assert groups(drawn) == len({e.id.rpartition("-")[0] for e in drawn}) < 100
    easy = examples("easy-vqa", "test")
    assert groups(easy) == 1000


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("v2_OpenEnded_mscoco_train2014_questions.json", {"data": []}, "the key 'questions' is"),
        ("v2_mscoco_train2014_annotations.json", [], "does not hold VQAv2's annotations"),
        (
            "v2_OpenEnded_mscoco_train2014_questions.json",
            {"questions": [{"question_id": 1, "question": "?"}]},
            r"the key 'image_id' is missing in questions\[",
        ),
        ("v2_mscoco_train2014_annotations.json", {"annotations": []}, "no answers to question 90"),
    ],
)
def test_a_wrong_vqav2_file_is_named_with_what_it_lacks(
    root: Path, file: str, content: Any, message: str
) -> None:
    write(root / file, content)
    with pytest.raises(DatasetError, match=message) as caught:
        examples(f"vqav2:{root}", "train")
    assert file in str(caught.value)


def test_a_wrong_textvqa_or_gqa_file_is_named_with_what_it_lacks(root: Path) -> None:
    write(root / "TextVQA_0.5.1_val.json", {"data": [{"question_id": 1, "image_id": 2}]})
    with pytest.raises(DatasetError, match=r"TextVQA_0\.5\.1_val\.json' does not hold .*image_id"):
        examples(f"textvqa:{root}", "test")
    (root / "val_balanced_questions.json").write_text('{"1": ')
    with pytest.raises(DatasetError, match=r"val_balanced_questions\.json.* it is not JSON"):
        examples(f"gqa:{root}", "validation")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    for kind in ("vqav2", "textvqa", "gqa"):
        with pytest.raises(DatasetError, match=r"There is no file .*\.json' to read"):
            examples(f"{kind}:{tmp_path / 'nowhere'}", "test")


def test_a_missing_image_is_named_before_anything_is_asked(root: Path) -> None:
    (root / "images" / "n1.jpg").unlink()
    with pytest.raises(DatasetError, match=r"n1\.jpg' is missing"):
        examples(f"gqa:{root}", "test")


def test_a_broken_image_is_named(root: Path) -> None:
    file = root / "images" / "n1.jpg"
    file.write_bytes(file.read_bytes()[:100])
    asked = examples(f"gqa:{root}", "test")[-1]
    for read in (asked.image, asked.data_url):
        with pytest.raises(DatasetError, match=r"n1\.jpg' is missing or cannot be read"):
            read()


def test_an_empty_split_is_an_error(root: Path) -> None:
    write(root / "testdev_balanced_questions.json", {})
    with pytest.raises(DatasetError, match=r"no questions in its test split"):
        examples(f"gqa:{root}", "test")
