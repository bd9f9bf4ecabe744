"""Descriptions of drawn pictures: every thing in them, in reading order.

Asked for beside the questions, they tell the decoder of all that a picture shows at once, where a
yes or no tells it one bit; LLaVA too learns from captions first.
"""

from __future__ import annotations

import numpy as np

from compressor.evaluate.generated import reading, scenes
from models.training import shapes

REQUESTS = ("describe the image.", "what is in the image?")
ROWS = ("top", "middle", "bottom")
COLUMNS = ("left", "center", "right")
PLACES = tuple(f"{row} {column}" for row in ROWS for column in COLUMNS)


def single(scene: shapes.Scene) -> str:
    """`red circle`."""
    return f"{scene.color} {scene.shape}"


def sign(shown: reading.Sign) -> str:
    """`red stop, blue 42`, from top to bottom."""
    lines = sorted(shown.lines, key=lambda line: line.top)
    return ", ".join(f"{line.color} {line.text}" for line in lines)


def scene(things: scenes.Scene) -> str:
    """`red circle top left, blue triangle bottom center`, row by row."""
    ordered = sorted(things, key=lambda thing: (thing.row, thing.column))
    return ", ".join(f"{t.name} {ROWS[t.row]} {COLUMNS[t.column]}" for t in ordered)


def locate(things: scenes.Scene, rng: np.random.Generator) -> scenes.Question:
    """`where is the red circle?`: its place, or for a thing that is not there, as often, `nowhere`.

    Between describing and answering yes or no: the same look-up, with more than one bit to learn from.
    """
    if rng.random() < 0.5:
        return scenes.Question(f"where is the {scenes.absent(things, rng)}?", "nowhere")
    thing = things[rng.integers(len(things))]
    return scenes.Question(
        f"where is the {thing.name}?", f"{ROWS[thing.row]} {COLUMNS[thing.column]}"
    )


def direct(things: scenes.Scene, rng: np.random.Generator) -> scenes.Question:
    """`where is the red circle from the blue rectangle?`: `top left`, `middle right`, ...

    What a relation asks, as one of eight answers in place of yes or no.
    """
    first, second = (things[i] for i in rng.choice(len(things), 2, replace=False))
    row = ROWS[1 + (first.row > second.row) - (first.row < second.row)]
    column = COLUMNS[1 + (first.column > second.column) - (first.column < second.column)]
    return scenes.Question(f"where is the {first.name} from the {second.name}?", f"{row} {column}")


def ask(caption: str, rng: np.random.Generator) -> shapes.Question:
    """A request for a description, with the description."""
    return shapes.Question(REQUESTS[rng.integers(len(REQUESTS))], caption)
