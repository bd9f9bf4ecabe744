"""Images and questions of the easy-vqa kind, drawn without end.

One shape (circle, rectangle, triangle) of one of eight colours on a light background, 64x64
pixels, anti-aliased; questions about its colour, its shape, and what is or is not present.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from compressor.evaluate.generated.canvas import (
    COLOR_NAMES,
    COLORS,
    OVERSAMPLE,
    SHAPES,
    SIZE_PX,
    blank,
    finish,
)

__all__ = ["COLORS", "COLOR_NAMES", "SHAPES", "SIZE_PX", "Question", "Scene", "ask", "draw"]


@dataclass(frozen=True)
class Scene:
    """What an image shows: the labels from which every question is answered."""

    shape: str
    color: str


@dataclass(frozen=True)
class Question:
    """A question and its one right answer."""

    text: str
    answer: str


def draw(scene: Scene, rng: np.random.Generator) -> Image.Image:
    """Draw `scene` at a random place and size; returns a 64x64 RGB image."""
    side = SIZE_PX * OVERSAMPLE
    low, high = side // 8, side // 2
    image = blank(rng)
    canvas = ImageDraw.Draw(image)
    fill = COLORS[scene.color]
    width, height = (int(v) for v in rng.integers(low, high + 1, 2))
    if scene.shape == "rectangle":
        x, y = int(rng.integers(0, side - width + 1)), int(rng.integers(0, side - height + 1))
        canvas.rectangle((x, y, x + width, y + height), fill=fill)
    elif scene.shape == "circle":
        x, y = (int(v) for v in rng.integers(0, side - width + 1, 2))
        canvas.ellipse((x, y, x + width, y + width), fill=fill)
    else:
        x, y = (int(v) for v in rng.integers(width, side - width + 1, 2))
        apex = (x + width * math.cos(math.pi / 3), y - width * math.sin(math.pi / 3))
        canvas.polygon([(x, y), (x + width, y), apex], fill=fill)
    return finish(image)


def questions(scene: Scene) -> list[list[Question]]:
    """Every question that can be asked of `scene`, in six groups.

    Its colour; its shape; present things, absent things; the same two, asked with a negation.
    """
    color = [
        Question(text, scene.color)
        for noun in ("shape", scene.shape)
        for text in (f"what color is the {noun}?", f"what is the color of the {noun}?")
    ]
    shape = [
        Question(text, scene.shape)
        for text in (
            "what shape is present?",
            "what shape is in the image?",
            "what shape does the image contain?",
            f"what is the {scene.color} shape?",
        )
    ]
    presence = [
        _presence(scene, true=true, negated=negated)
        for negated in (False, True)
        for true in (True, False)
    ]
    return [color, shape, *presence]


def _presence(scene: Scene, *, true: bool, negated: bool) -> list[Question]:
    """Yes/no questions about things that are (`true`) or are not in the image."""
    colors = [c for c in COLOR_NAMES if (c == scene.color) is true]
    shapes = [s for s in SHAPES if (s == scene.shape) is true]
    templates = (
        ("is there not a {}?", "is there not a {} in the image?", "is no {} present?",
         "does the image not contain a {}?")
        if negated
        else ("is there a {}?", "is there a {} in the image?", "is a {} present?",
              "does the image contain a {}?")
    )  # fmt: skip
    answer = "yes" if true is not negated else "no"
    things = [f"{color} shape" for color in colors] + shapes
    return [Question(text.format(thing), answer) for thing in things for text in templates]


def random_scene(rng: np.random.Generator) -> Scene:
    """A scene with shape and colour drawn evenly."""
    return Scene(SHAPES[rng.integers(len(SHAPES))], COLOR_NAMES[rng.integers(len(COLOR_NAMES))])


def ask(
    scene: Scene,
    count: int,
    rng: np.random.Generator,
    *,
    negated_share: float = 0.5,
    presence_share: float = 0.5,
    color_share: float | None = None,
) -> list[Question]:
    """`count` questions about `scene`, with replacement.

    `presence_share` of them are yes/no questions, half about things that are there and half about
    things that are not, `negated_share` with a negation; the others ask for its colour or its shape
    in equal parts. `color_share` of the yes/no questions name a colour, the others a shape; None
    takes every question of a kind as likely as any other of that kind.
    """
    plain = (1 - negated_share) * presence_share / 2
    negated = negated_share * presence_share / 2
    named = (1 - presence_share) / 2
    groups = questions(scene)
    chosen = rng.choice(len(groups), size=count, p=[named, named, plain, plain, negated, negated])
    found = []
    for index in chosen:
        group = groups[index]
        if color_share is not None and index >= 2:
            by_color = rng.random() < color_share
            group = [q for q in group if (" shape" in q.text) is by_color]
        found.append(group[rng.integers(len(group))])
    return found
