"""Loaders of the files that VQAv2, TextVQA 0.5.1 and GQA are published as; see docs/datasets.md.

A published test split without answers is of no use here: validation and test are then the halves of
the published validation split, by a hash of the question's id.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TypeVar

import msgspec

from compressor.errors import DatasetError
from compressor.evaluate.example import Example
from compressor.evaluate.files import part_of_hash, read_json
from compressor.evaluate.generated.canvas import Split

Row = TypeVar("Row", "VqaQuestion", "TextQuestion")


class VqaQuestion(msgspec.Struct):
    """One of `questions`."""

    question_id: int
    image_id: int
    question: str


class VqaQuestions(msgspec.Struct):
    """`v2_OpenEnded_mscoco_*_questions.json`."""

    questions: list[VqaQuestion]


class VqaAnswer(msgspec.Struct):
    """What one person said."""

    answer: str


class VqaAnnotation(msgspec.Struct):
    """One of `annotations`."""

    question_id: int
    answers: list[VqaAnswer]


class VqaAnnotations(msgspec.Struct):
    """`v2_mscoco_*_annotations.json`."""

    annotations: list[VqaAnnotation]


class TextQuestion(msgspec.Struct):
    """One of TextVQA's `data`."""

    question_id: int
    image_id: str
    question: str
    answers: list[str]


class TextQuestions(msgspec.Struct):
    """`TextVQA_0.5.1_*.json`."""

    data: list[TextQuestion]


class GqaQuestion(msgspec.Struct):
    """One of GQA's, which are keyed by their ids."""

    imageId: str  # noqa: N815 - the file's own name
    question: str
    answer: str


def vqav2(directory: Path, split: Split) -> list[Example]:
    """VQAv2: ten answers each; train2014, and the halves of val2014.

    Raises:
        DatasetError: a file is missing or has another format, or a question has no answers.
    """
    part = "train2014" if split == "train" else "val2014"
    asked_file = directory / f"v2_OpenEnded_mscoco_{part}_questions.json"
    answers_file = directory / f"v2_mscoco_{part}_annotations.json"
    asked = read_json(asked_file, VqaQuestions, "VQAv2's questions").questions
    notes = read_json(answers_file, VqaAnnotations, "VQAv2's annotations").annotations
    answers = {note.question_id: tuple(given.answer for given in note.answers) for note in notes}
    found = []
    for row in _half(asked, split):
        given = answers.get(row.question_id)
        if not given:
            raise DatasetError(
                f"{str(answers_file)!r} has no answers to question {row.question_id}; "
                "take questions and annotations of the same version."
            )
        file = directory / part / f"COCO_{part}_{row.image_id:012d}.jpg"
        found.append(Example.about_file(str(row.question_id), row.question, given, "vqa", file))
    return found


def textvqa(directory: Path, split: Split) -> list[Example]:
    """TextVQA 0.5.1: ten answers each; train, and the halves of val. No OCR tokens in the prompt.

    Raises:
        DatasetError: the file is missing or has another format, or a question has no answers.
    """
    path = directory / f"TextVQA_0.5.1_{'train' if split == 'train' else 'val'}.json"
    found = []
    for row in _half(read_json(path, TextQuestions, "TextVQA 0.5.1's questions").data, split):
        if not row.answers:
            raise DatasetError(f"{str(path)!r} has no answers to question {row.question_id}.")
        file = directory / "train_images" / f"{row.image_id}.jpg"  # of both splits
        answers = tuple(row.answers)
        found.append(Example.about_file(str(row.question_id), row.question, answers, "vqa", file))
    return found


def gqa(directory: Path, split: Split) -> list[Example]:
    """GQA's balanced questions, one answer each: train, val, and testdev as the test split.

    Raises:
        DatasetError: the file is missing or has another format.
    """
    part = {"train": "train", "validation": "val", "test": "testdev"}[split]
    path = directory / f"{part}_balanced_questions.json"
    rows = read_json(path, dict[str, GqaQuestion], "GQA's questions")
    images = directory / "images"
    return [
        Example.about_file(
            key, row.question, (row.answer,), "exact", images / f"{row.imageId}.jpg"
        )
        for key, row in rows.items()
    ]  # fmt: skip


def _half(rows: list[Row], split: Split) -> list[Row]:
    """All questions for training; otherwise the half that belongs to the split."""
    if split == "train":
        return rows
    half = 0 if split == "validation" else 1
    return [row for row in rows if part_of_hash(str(row.question_id), 2) == half]


OFFICIAL: Mapping[str, Callable[[Path, Split], list[Example]]] = MappingProxyType(
    {"vqav2": vqav2, "textvqa": textvqa, "gqa": gqa}
)
