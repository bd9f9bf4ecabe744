"""A question set of the user's own: a `.jsonl` file, one question a line; see docs/datasets.md."""

from __future__ import annotations

from pathlib import Path

import msgspec

from compressor.errors import DatasetError
from compressor.evaluate.example import Example, Metric
from compressor.evaluate.files import decode_json, part_of_hash
from compressor.evaluate.generated.canvas import Split

_QUARTERS: tuple[Split, ...] = ("train", "train", "validation", "test")


class Row(msgspec.Struct, forbid_unknown_fields=True):
    """One line."""

    image: str
    """Path of the image, relative to the file."""
    question: str
    answers: list[str] | None = None
    """Of several people; or `answer`."""
    answer: str | None = None
    id: str | int | None = None
    split: Split | None = None


def own(path: Path, split: Split) -> list[Example]:
    """The questions of a split.

    Rows say their split, or none does: then a hash of the image's path divides the file, 50 % training,
    25 % validation, 25 % test, so that no picture is in two splits.

    Raises:
        DatasetError: the file is missing or a line is malformed; names the line.
    """
    rows = _read(path)
    if len({row.split is None for _, row in rows}) > 1:
        raise DatasetError(
            f"{str(path)!r} names a split in some lines only; name it in all or none."
        )
    found, keys = [], set[str]()
    for number, row in rows:
        key = str(number if row.id is None else row.id)
        if key in keys:
            raise DatasetError(
                f"{str(path)!r} has two questions with the id {key!r}; make it unique."
            )
        keys.add(key)
        if (row.split or _QUARTERS[part_of_hash(row.image, 4)]) == split:
            found.append(_example(path, number, key, row))
    return found


def _read(path: Path) -> list[tuple[int, Row]]:
    """The lines' numbers and what they hold."""
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise DatasetError(f"There is no dataset {str(path)!r}; give the file's path.") from error
    return [
        (number, decode_json(line, Row, f"Line {number} of {str(path)!r} is malformed"))
        for number, line in enumerate(lines, start=1)
        if line.strip()
    ]


def _example(path: Path, number: int, key: str, row: Row) -> Example:
    """The question of a row.

    Raises:
        DatasetError: it has no answer, or both `answer` and `answers`.
    """
    answers = row.answers if row.answer is None else [row.answer]
    if not answers or (row.answers is not None and row.answer is not None):
        raise DatasetError(
            f"Line {number} of {str(path)!r} needs either 'answer' or a list of 'answers'."
        )
    metric: Metric = "vqa" if len(answers) > 1 else "exact"
    file = path.parent / row.image
    return Example.about_file(key, row.question, tuple(answers), metric, file)
