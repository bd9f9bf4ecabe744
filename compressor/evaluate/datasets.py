"""Visual question answering datasets, by name."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image

from compressor.errors import DatasetError
from compressor.evaluate.generated import reading, scenes
from compressor.evaluate.generated.canvas import Split

Metric = Literal["exact", "vqa"]
SUFFIX = "\nAnswer the question using a single word or phrase."
# Drawn sets: pictures of each split, and questions about each picture.
_PICTURES: dict[Split, int] = {"train": 3000, "validation": 1000, "test": 1500}
_QUESTIONS_PER_PICTURE = 3
_EASY_VQA_VALIDATION_IMAGES = 200  # the last of its training split


@dataclass(frozen=True)
class Example:
    """A question about an image, with its answers."""

    id: str
    question: str
    answers: tuple[str, ...]
    """One, or those of several people."""
    metric: Metric
    """`exact` match with the one answer, or `vqa`: soft accuracy over several people's answers."""
    open_image: Callable[[], Image.Image]

    @property
    def answer(self) -> str:
        """The answer that most people gave, the first of them."""
        return Counter(self.answers).most_common(1)[0][0]

    def image(self) -> Image.Image:
        """The image, RGB."""
        return self.open_image()

    def png(self) -> bytes:
        """The image as a PNG file."""
        buffer = io.BytesIO()
        self.image().save(buffer, "PNG")
        return buffer.getvalue()

    @property
    def prompt(self) -> str:
        """The question as models are asked it: with the usual suffix for short answers."""
        return self.question + SUFFIX


def open_file(path: str | Path) -> Image.Image:
    """An image file, RGB."""
    with Image.open(path) as image:
        return image.convert("RGB")


def _easy_vqa(split: Split) -> list[Example]:
    """easy-vqa 1.0 (MIT), shipped by its package: 48,248 questions about one shape each.

    The package has no validation split: it is the questions of the last 200 training images.
    """
    import easy_vqa

    if split == "test":
        rows, paths = easy_vqa.get_test_questions(), easy_vqa.get_test_image_paths()
    else:
        rows, paths = easy_vqa.get_train_questions(), easy_vqa.get_train_image_paths()
    first_held_out = sorted(paths)[-_EASY_VQA_VALIDATION_IMAGES]
    return [
        Example(f"{split}-{number}", question, (answer,), "exact", partial(open_file, paths[image]))
        for number, (question, answer, image) in enumerate(zip(*rows, strict=True))
        if split == "test" or (image >= first_held_out) is (split == "validation")
    ]


def _drawn_text(split: Split) -> list[Example]:
    """Signs to read, ten answers each, like TextVQA."""
    found = []
    for number in range(_PICTURES[split]):
        rng = reading.picture_rng(split, number)
        sign = reading.random_sign(rng)
        reading.draw(sign, rng)
        asked = [reading.ask(sign, rng) for _ in range(_QUESTIONS_PER_PICTURE)]
        found += [
            Example(
                f"{split}-{number}-{i}", q.text, q.answers, "vqa", partial(_sign, split, number)
            )
            for i, q in enumerate(asked)
        ]
    return found


def _drawn_scenes(split: Split) -> list[Example]:
    """Several shapes: existence, attributes, counts, relations, comparisons, logic; like GQA."""
    found = []
    for number in range(_PICTURES[split]):
        rng = scenes.picture_rng(split, number)
        scene = scenes.random_scene(rng)
        scenes.draw(scene, rng)
        asked = [scenes.ask(scene, rng) for _ in range(_QUESTIONS_PER_PICTURE)]
        found += [
            Example(
                f"{split}-{number}-{i}",
                q.text,
                (q.answer,),
                "exact",
                partial(_scene, split, number),
            )
            for i, q in enumerate(asked)
        ]
    return found


def _sign(split: Split, number: int) -> Image.Image:
    rng = reading.picture_rng(split, number)
    return reading.draw(reading.random_sign(rng), rng)


def _scene(split: Split, number: int) -> Image.Image:
    rng = scenes.picture_rng(split, number)
    return scenes.draw(scenes.random_scene(rng), rng)


DATASETS: dict[str, Callable[[Split], list[Example]]] = {
    "easy-vqa": _easy_vqa,
    "drawn-text": _drawn_text,
    "drawn-scenes": _drawn_scenes,
}


def examples(
    name: str, split: Split, *, samples: int | None = None, seed: int = 0
) -> list[Example]:
    """Examples of a split, all or `samples` of them drawn by the seed without replacement.

    Raises:
        DatasetError: the dataset is unknown.
    """
    if name not in DATASETS:
        raise DatasetError(f"Dataset {name!r} is unknown; known: {', '.join(DATASETS)}.")
    found = DATASETS[name](split)
    if samples is None or samples >= len(found):
        return found
    chosen = np.random.default_rng(seed).choice(len(found), samples, replace=False)
    return [found[i] for i in sorted(chosen)]
