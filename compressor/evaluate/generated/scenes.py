"""Scenes of two to four shapes, and questions that need several of them at once.

Like GQA: existence, attributes, counts, spatial relations, comparisons and logic, one right answer
each. Yes and no are equally likely, but for comparisons: 45 % are "yes". Every picture is drawn from
(seed of its split, number).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from PIL import Image, ImageDraw

from compressor.evaluate.generated.canvas import (
    COLOR_NAMES,
    SHAPES,
    SIZE_PX,
    SPLITS,
    Box,
    Split,
    blank,
    draw_shape,
    finish,
)

T = TypeVar("T")
_NAMESPACE = 0x5CE7
_GRID = 3  # objects stand in different cells of a 3x3 grid
NUMBERS = ("zero", "one", "two", "three", "four")


@dataclass(frozen=True)
class Thing:
    """One shape of a scene. No two of a scene have the same shape and colour."""

    shape: str
    color: str
    row: int
    column: int
    box: Box

    @property
    def name(self) -> str:
        """As questions call it."""
        return f"{self.color} {self.shape}"


Scene = tuple[Thing, ...]


@dataclass(frozen=True)
class Question:
    """A question and its one right answer."""

    text: str
    answer: str


def random_scene(rng: np.random.Generator) -> Scene:
    """Two to four things in different cells."""
    count = int(rng.integers(2, 5))
    cells = rng.choice(_GRID * _GRID, count, replace=False)
    kinds = rng.choice(len(SHAPES) * len(COLOR_NAMES), count, replace=False)
    return tuple(_place(int(c), int(k), rng) for c, k in zip(cells, kinds, strict=True))


def _place(cell: int, kind: int, rng: np.random.Generator) -> Thing:
    row, column = divmod(cell, _GRID)
    side = SIZE_PX / _GRID
    width, height = rng.uniform(11, 19, 2)
    shape = SHAPES[kind % len(SHAPES)]
    if shape != "rectangle":
        height = width
    left = column * side + rng.uniform(0, side - width)
    top = row * side + rng.uniform(0, side - height)
    box = (float(left), float(top), float(left + width), float(top + height))
    return Thing(shape, COLOR_NAMES[kind // len(SHAPES)], row, column, box)


def draw(scene: Scene, rng: np.random.Generator) -> Image.Image:
    """The 64x64 RGB picture of a scene."""
    image = blank(rng)
    canvas = ImageDraw.Draw(image)
    for thing in scene:
        draw_shape(canvas, thing.shape, thing.color, thing.box)
    return finish(image)


Asker = Callable[[Scene, np.random.Generator], Question | None]


def ask(scene: Scene, rng: np.random.Generator, kinds: Sequence[Asker] | None = None) -> Question:
    """One question about a scene: first its kind is drawn, of all or of `kinds`, then one of it."""
    chosen = KINDS if kinds is None else kinds
    while True:
        found = _pick(chosen, rng)(scene, rng)
        if found is not None:
            return found


def _pick(items: Sequence[T], rng: np.random.Generator) -> T:
    return items[int(rng.integers(len(items)))]


def _yes(truth: bool) -> str:
    return "yes" if truth else "no"


def absent(scene: Scene, rng: np.random.Generator) -> str:
    """The name of a thing that is not there, half of the time sharing a shape or colour."""
    names = {thing.name for thing in scene}
    while True:
        near = rng.random() < 0.5
        color = _pick(scene, rng).color if near else _pick(COLOR_NAMES, rng)
        name = f"{color} {_pick(SHAPES, rng)}"
        if name not in names:
            return name


def exists(scene: Scene, rng: np.random.Generator) -> Question:
    """Is there a red circle?"""
    truth = rng.random() < 0.5
    name = _pick(scene, rng).name if truth else absent(scene, rng)
    return Question(f"is there a {name}?", _yes(truth))


def attribute(scene: Scene, rng: np.random.Generator) -> Question | None:
    """The colour of the only circle, or the shape of the only red thing."""
    thing = _pick(scene, rng)
    if rng.random() < 0.5:
        if sum(t.shape == thing.shape for t in scene) > 1:
            return None
        return Question(f"what color is the {thing.shape}?", thing.color)
    if sum(t.color == thing.color for t in scene) > 1:
        return None
    return Question(f"what is the {thing.color} shape?", thing.shape)


def count(scene: Scene, rng: np.random.Generator) -> Question:
    """How many of a shape, of a colour, or of all."""
    kind = rng.integers(5)
    if kind == 0:
        return Question("how many shapes are there?", NUMBERS[len(scene)])
    if kind < 4:
        shape = _pick(SHAPES, rng)
        found = sum(t.shape == shape for t in scene)
        return Question(f"how many {shape}s are there?", NUMBERS[found])
    color = _pick(scene, rng).color if rng.random() < 0.7 else _pick(COLOR_NAMES, rng)
    found = sum(t.color == color for t in scene)
    return Question(f"how many {color} shapes are there?", NUMBERS[found])


def relation(scene: Scene, rng: np.random.Generator) -> Question | None:
    """Is the red circle left of the blue rectangle?"""
    first, second = (scene[i] for i in rng.choice(len(scene), 2, replace=False))
    if rng.random() < 0.5:
        if first.column == second.column:
            return None
        truth = first.column < second.column
        words = ("left of", "right of")
    else:
        if first.row == second.row:
            return None
        truth = first.row < second.row
        words = ("above", "below")
    flip = rng.random() < 0.5
    word = words[1] if flip else words[0]
    return Question(f"is the {first.name} {word} the {second.name}?", _yes(truth is not flip))


def more(scene: Scene, rng: np.random.Generator) -> Question | None:
    """Are there more circles than triangles?"""
    first, second = (SHAPES[i] for i in rng.choice(len(SHAPES), 2, replace=False))
    a, b = (sum(t.shape == s for t in scene) for s in (first, second))
    if a <= b and rng.random() < 0.4:  # equal counts would make "no" the better guess
        return None
    return Question(f"are there more {first}s than {second}s?", _yes(a > b))


def logic(scene: Scene, rng: np.random.Generator) -> Question:
    """Is there a red circle and (or) a blue rectangle?"""
    both = rng.random() < 0.5
    truth = rng.random() < 0.5
    there = [thing.name for thing in scene]
    rng.shuffle(there)
    if both:
        names = there[:2] if truth else [there[0], absent(scene, rng)]
    else:
        names = [there[0], absent(scene, rng)] if truth else _two_absent(scene, rng)
    if rng.random() < 0.5:
        names.reverse()
    word = "and" if both else "or"
    return Question(f"is there a {names[0]} {word} a {names[1]}?", _yes(truth))


def _two_absent(scene: Scene, rng: np.random.Generator) -> list[str]:
    first = absent(scene, rng)
    second = absent(scene, rng)
    while second == first:
        second = absent(scene, rng)
    return [first, second]


KINDS: tuple[Asker, ...] = (exists, attribute, count, relation, more, logic)


def picture_rng(split: Split, number: int) -> np.random.Generator:
    """The generator of one picture of a split, from which scene and drawing follow."""
    return np.random.default_rng([_NAMESPACE, SPLITS.index(split), number])


def question_rng(split: Split, number: int) -> np.random.Generator:
    """The generator of the questions about one picture, which so need not be drawn to be asked."""
    return np.random.default_rng([_NAMESPACE, SPLITS.index(split), number, 1])
