"""What each patch of a drawn picture shows, from which the vision tower learns before it is asked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from compressor.evaluate.generated.canvas import COLOR_NAMES, SHAPES, SIZE_PX, Box
from compressor.evaluate.generated.reading import WORDS, Sign
from compressor.evaluate.generated.scenes import Scene

PATCH_PX = 8
GRID = SIZE_PX // PATCH_PX
PATCHES = GRID * GRID
LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789"
IGNORED = -100
TEXTS = (*WORDS, *map(str, range(100)))
FIELDS = {
    "shape": len(SHAPES) + 1,
    "color": len(COLOR_NAMES) + 1,
    "letter": len(LETTERS) + 1,
    "index": 6,
    "text": len(TEXTS) + 1,
    "row": 4,
    "column": 4,
    "center": 3,
}
"""Classes of each field; 0 = nothing there.

`index` is a letter's place in its line, from 1, and `text` the line that it belongs to; `row` and
`column` are those of a shape's cell, or of a sign's line, from 1; `center` is 2 in the one patch that
holds the middle of a shape or letter, 1 in the others that it covers.
"""


@dataclass(frozen=True)
class Mark:
    """Something with a box, and its class in each field; in those that are not named it has none."""

    box: Box
    classes: Mapping[str, int]

    def column(self, center: int) -> np.ndarray:
        """(fields, 1) int64."""
        named = {**self.classes, "center": center}
        return np.array([named.get(field, 0) for field in FIELDS])[:, None]


def scene_labels(scene: Scene) -> np.ndarray:
    """(fields, patches) int64 of a scene of shapes."""
    return _fill(
        [
            Mark(
                thing.box,
                {
                    "shape": SHAPES.index(thing.shape) + 1,
                    "color": COLOR_NAMES.index(thing.color) + 1,
                    "row": thing.row + 1,
                    "column": thing.column + 1,
                },
            )
            for thing in scene
        ]
    )


def sign_labels(sign: Sign) -> np.ndarray:
    """(fields, patches) int64 of a sign."""
    lines = sorted(sign.lines, key=lambda line: line.top)
    return _fill(
        [
            Mark(
                box,
                {
                    "color": COLOR_NAMES.index(line.color) + 1,
                    "letter": LETTERS.index(letter) + 1,
                    "index": place,
                    "text": TEXTS.index(line.text) + 1,
                    "row": row,
                },
            )
            for row, line in enumerate(lines, start=1)
            for place, (letter, box) in enumerate(line.letters(), start=1)
        ]
    )


def no_labels() -> np.ndarray:
    """(fields, patches) for a picture of which nothing is known."""
    return np.full((len(FIELDS), PATCHES), IGNORED, dtype=np.int64)


def _fill(marks: Sequence[Mark]) -> np.ndarray:
    """Every patch whose centre a mark covers, and the patch nearest to the mark's own centre."""
    labels = np.zeros((len(FIELDS), GRID, GRID), dtype=np.int64)
    centres = (np.arange(GRID) + 0.5) * PATCH_PX
    for mark in marks:
        left, top, right, bottom = mark.box
        rows = (centres >= top) & (centres <= bottom)
        columns = (centres >= left) & (centres <= right)
        labels[:, rows[:, None] & columns] = mark.column(center=1)
    for mark in marks:
        left, top, right, bottom = mark.box
        row, column = (
            int(np.clip((a + b) / 2 // PATCH_PX, 0, GRID - 1))
            for a, b in ((top, bottom), (left, right))
        )
        labels[:, row, column] = mark.column(center=2)[:, 0]
    return labels.reshape(len(FIELDS), PATCHES)
