"""What all drawn pictures share: their size, colours, shapes, and how a picture gets its edges."""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal

import numpy as np
from PIL import Image, ImageDraw

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")
SIZE_PX = 64
OVERSAMPLE = 2  # drawn larger and resized down: Pillow's shapes are not anti-aliased
SHAPES = ("circle", "rectangle", "triangle")
COLORS: Mapping[str, tuple[int, int, int]] = MappingProxyType(
    {
        "black": (0, 0, 0),
        "blue": (0, 0, 255),
        "brown": (165, 42, 42),
        "gray": (128, 128, 128),
        "green": (0, 255, 0),
        "red": (255, 0, 0),
        "teal": (0, 128, 128),
        "yellow": (255, 255, 0),
    }
)
COLOR_NAMES = tuple(COLORS)

Box = tuple[float, float, float, float]
"""Left, top, right, bottom in pixels of the finished picture."""


def blank(rng: np.random.Generator) -> Image.Image:
    """An oversampled RGB canvas of a random light colour."""
    side = SIZE_PX * OVERSAMPLE
    background = tuple(int(c) for c in rng.integers(230, 256, 3))
    return Image.new("RGB", (side, side), background)


def finish(image: Image.Image) -> Image.Image:
    """The finished 64x64 picture of an oversampled canvas."""
    return image.resize((SIZE_PX, SIZE_PX), Image.Resampling.BILINEAR)


def draw_shape(canvas: ImageDraw.ImageDraw, shape: str, color: str, box: Box) -> None:
    """Draw one shape that fills `box`."""
    left, top, right, bottom = (v * OVERSAMPLE for v in box)
    fill = COLORS[color]
    if shape == "rectangle":
        canvas.rectangle((left, top, right, bottom), fill=fill)
    elif shape == "circle":
        canvas.ellipse((left, top, right, bottom), fill=fill)
    else:
        apex = ((left + right) / 2, bottom - (right - left) * math.sin(math.pi / 3))
        canvas.polygon([(left, bottom), (right, bottom), apex], fill=fill)
