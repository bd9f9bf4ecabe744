"""Visual question answering datasets, by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from PIL import Image

from compressor.errors import DatasetError

Split = Literal["train", "test"]
SUFFIX = "\nAnswer the question using a single word or phrase."


@dataclass(frozen=True)
class Example:
    """A question about an image, with its answer."""

    id: str
    image_path: str
    question: str
    answer: str

    def image(self) -> Image.Image:
        """The image, RGB."""
        with Image.open(self.image_path) as image:
            return image.convert("RGB")

    @property
    def prompt(self) -> str:
        """The question as models are asked it: with the usual suffix for short answers."""
        return self.question + SUFFIX


def _easy_vqa(split: Split) -> list[Example]:
    """easy-vqa 1.0 (MIT): 38,575 training and 9,673 test questions, shipped by its package."""
    import easy_vqa

    if split == "train":
        rows, paths = easy_vqa.get_train_questions(), easy_vqa.get_train_image_paths()
    else:
        rows, paths = easy_vqa.get_test_questions(), easy_vqa.get_test_image_paths()
    return [
        Example(f"{split}-{number}", paths[image], question, answer)
        for number, (question, answer, image) in enumerate(zip(*rows, strict=True))
    ]


DATASETS: dict[str, Callable[[Split], list[Example]]] = {"easy-vqa": _easy_vqa}


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
