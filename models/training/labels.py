"""What each patch of a drawn picture shows, from which the vision tower learns before it is asked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from compressor.evaluate.generated.canvas import COLOR_NAMES, SHAPES, SIZE_PX, Box
from compressor.evaluate.generated.reading import Sign
from compressor.evaluate.generated.scenes import Scene

PATCH_PX = 8
GRID = SIZE_PX // PATCH_PX
PATCHES = GRID * GRID
LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789"
IGNORED = -100
FIELDS = {
    "shape": len(SHAPES) + 1,
    "color": len(COLOR_NAMES) + 1,
    "letter": len(LETTERS) + 1,
    "index": 6,
}
"""Classes of each field; 0 = nothing there. `index` is a letter's place in its line, from 1."""


@dataclass(frozen=True)
class Mark:
    """Something with a box, and its class in each field."""

    box: Box
    classes: tuple[int, int, int, int]


def scene_labels(scene: Scene) -> np.ndarray:
    """(fields, patches) int64 of a scene of shapes."""
    return _fill(
        [
            Mark(t.box, (SHAPES.index(t.shape) + 1, COLOR_NAMES.index(t.color) + 1, 0, 0))
            for t in scene
        ]
    )


def sign_labels(sign: Sign) -> np.ndarray:
    """(fields, patches) int64 of a sign."""
    return _fill(
        [
            Mark(box, (0, COLOR_NAMES.index(line.color) + 1, LETTERS.index(letter) + 1, place))
            for line in sign.lines
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
        rows, columns = (
            (centres >= top) & (centres <= bottom),
            (centres >= left) & (centres <= right),
        )
        labels[:, rows[:, None] & columns] = np.array(mark.classes)[:, None]
    for mark in marks:
        left, top, right, bottom = mark.box
        row, column = (
            int(np.clip((a + b) / 2 // PATCH_PX, 0, GRID - 1))
            for a, b in ((top, bottom), (left, right))
        )
        labels[:, row, column] = mark.classes
    return labels.reshape(len(FIELDS), PATCHES)
