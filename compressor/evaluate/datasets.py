"""Visual question answering datasets, by name."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from compressor.errors import DatasetError
from compressor.evaluate.example import Example, unreadable
from compressor.evaluate.generated import reading, scenes
from compressor.evaluate.generated.canvas import Split
from compressor.evaluate.official import OFFICIAL
from compressor.evaluate.own import own

__all__ = ["DATASETS", "Example", "examples", "loader"]

# Drawn sets: pictures of each split, and questions about each picture.
_PICTURES: dict[Split, int] = {"train": 3000, "validation": 1000, "test": 1500}
_QUESTIONS_PER_PICTURE = 3
_EASY_VQA_VALIDATION_IMAGES = 200  # the last of its training split


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
        Example.about_file(
            f"{split}-{number}", question, (answer,), "exact", Path(paths[image])
        )
        for number, (question, answer, image) in enumerate(zip(*rows, strict=True))
        if split == "test" or (image >= first_held_out) is (split == "validation")
    ]  # fmt: skip


def _drawn_text(split: Split) -> list[Example]:
    """Signs to read, ten answers each, like TextVQA."""
    found = []
    for number in range(_PICTURES[split]):
        sign = reading.random_sign(reading.picture_rng(split, number))
        rng = reading.question_rng(split, number)
        asked = [reading.ask(sign, rng) for _ in range(_QUESTIONS_PER_PICTURE)]
        found += [
            Example(
                f"{split}-{number}-{i}",
                q.text,
                q.answers,
                "vqa",
                partial(_sign, split, number),
                group=f"{split}-{number}",
            )
            for i, q in enumerate(asked)
        ]
    return found


def _drawn_scenes(split: Split) -> list[Example]:
    """Several shapes: existence, attributes, counts, relations, comparisons, logic; like GQA."""
    found = []
    for number in range(_PICTURES[split]):
        scene = scenes.random_scene(scenes.picture_rng(split, number))
        rng = scenes.question_rng(split, number)
        asked = [scenes.ask(scene, rng) for _ in range(_QUESTIONS_PER_PICTURE)]
        found += [
            Example(
                f"{split}-{number}-{i}",
                q.text,
                (q.answer,),
                "exact",
                partial(_scene, split, number),
                group=f"{split}-{number}",
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


def loader(name: str) -> Callable[[Split], list[Example]]:
    """What reads the splits of a dataset: a name of `DATASETS`, `vqav2:DIR`, or a `.jsonl` file.

    Raises:
        DatasetError: the dataset is unknown.
    """
    if name in DATASETS:
        return DATASETS[name]
    kind, colon, directory = name.partition(":")
    if colon and directory and kind in OFFICIAL:
        return partial(OFFICIAL[kind], Path(directory))
    if name.endswith(".jsonl"):
        return partial(own, Path(name))
    known = ", ".join([*DATASETS, *(f"{kind}:DIR" for kind in OFFICIAL), "a .jsonl file"])
    raise DatasetError(f"Dataset {name!r} is unknown; known: {known}.")


def state_of(name: str) -> dict[str, tuple[int, int]]:
    """Size in bytes and time of change in nanoseconds of the files of text behind a dataset.

    Nothing for the sets that come with this project and its packages, and for files that are not there.

    Raises:
        DatasetError: the dataset is unknown.
    """
    loader(name)
    if name in DATASETS:
        return {}
    if name.endswith(".jsonl"):
        paths = [Path(name)]
    else:
        paths = sorted(Path(name.partition(":")[2]).glob("*.json"))
    found = {path.name: path.stat() for path in paths if path.is_file()}
    return {file: (state.st_size, state.st_mtime_ns) for file, state in found.items()}


def examples(
    name: str, split: Split, *, samples: int | None = None, seed: int = 0
) -> list[Example]:
    """Examples of a split, all or `samples` of them drawn by the seed without replacement.

    Args:
        name: of the dataset; see `loader`.
        split: `train`, `validation` or `test`; docs/datasets.md says what each dataset has for it.
        samples: how many; all where there are not more.
        seed: of the draw.

    Raises:
        DatasetError: the dataset is unknown, its files are missing or malformed, the split is empty, or
            an image of those drawn is not there.
    """
    found = loader(name)(split)
    if not found:
        raise DatasetError(f"Dataset {name!r} has no questions in its {split} split.")
    if samples is not None and samples < len(found):
        chosen = np.random.default_rng(seed).choice(len(found), samples, replace=False)
        found = [found[i] for i in sorted(chosen)]
    for file in {example.file for example in found}:
        if file is not None and not file.is_file():
            raise unreadable(file)
    return found
