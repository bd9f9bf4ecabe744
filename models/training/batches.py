"""Training batches: several questions packed behind one image, so its prefix is computed once.

A packed row is `prefix | question 1 + answer | question 2 + answer | ...`. Every question sees the
prefix and itself only (a block mask), and its positions go on from the prefix, so a row equals as
many separate conversations about one image.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache

import easy_vqa
import numpy as np
import torch
from PIL import Image
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from compressor.evaluate.generated import reading, scenes
from compressor.evaluate.generated.canvas import Split as Part
from models.training import captions, labels, shapes
from models.training.architecture import (
    BOS,
    CLIP_MEAN,
    CLIP_STD,
    EOS,
    IMAGE,
    IMAGE_TOKENS,
    SUFFIX,
)

KINDS = ("easy-vqa", "drawn-text", "drawn-scenes")
HELD_OUT_IMAGES = 200  # of the training split, for the curve: never trained on
EASY_VQA_SHARE = 0.25  # of the images; the rest is drawn


@dataclass(frozen=True)
class Batch:
    """One packed batch of B images and rows of T tokens."""

    pixels: Tensor  # (B, 3, 64, 64) float32, normalised as CLIP's processor does
    input_ids: Tensor  # (B, T) int64
    positions: Tensor  # (B, T) int64
    mask: Tensor  # (B, 1, T, T) float32, 0 where a key may be seen, else -inf
    targets: Tensor  # (B, T) int64: the next token where it belongs to an answer, else -100
    shape_ids: Tensor  # (B,) int64; -100 where a picture has not one shape
    color_ids: Tensor  # (B,) int64; the same
    patches: Tensor  # (B, fields, 64) int64: what each patch shows; -100 = unknown


@dataclass(frozen=True)
class Mix:
    """How many images and questions a batch has, and of which kinds (see `shapes.ask`)."""

    images: int
    questions: int = 6  # of each image
    negated_share: float = 0.5
    presence_share: float = 0.5
    color_share: float | None = None
    reading_share: float = 0.0  # of the images: signs
    scenes_share: float = 0.0  # of the images: several shapes
    caption_share: float = 0.0  # of the images: a description is asked for, as one question more
    scene_kinds: tuple[scenes.Asker, ...] = scenes.KINDS  # of questions about several shapes


@dataclass(frozen=True)
class Picture:
    """One image with what is asked of it and what is known of it."""

    pixels: np.ndarray
    questions: list[shapes.Question]
    scene: shapes.Scene | None = None
    patches: np.ndarray | None = None
    caption: str = ""


@dataclass(frozen=True)
class Split:
    """easy-vqa's questions of one image, with the scene they reveal."""

    image_path: str
    scene: shapes.Scene
    questions: tuple[shapes.Question, ...]


@cache
def easy_vqa_split(part: str) -> tuple[Split, ...]:
    """The images of `train`, `held_out` (the last of the training split) or `test`."""
    if part == "test":
        rows, paths = easy_vqa.get_test_questions(), easy_vqa.get_test_image_paths()
    else:
        rows, paths = easy_vqa.get_train_questions(), easy_vqa.get_train_image_paths()
    by_image: dict[int, list[shapes.Question]] = {}
    for text, answer, image_id in zip(*rows, strict=True):
        by_image.setdefault(image_id, []).append(shapes.Question(text, answer))
    splits = [
        Split(paths[image_id], _scene(found), tuple(found))
        for image_id, found in sorted(by_image.items())
    ]
    if part == "train":
        return tuple(splits[:-HELD_OUT_IMAGES])
    return tuple(splits[-HELD_OUT_IMAGES:] if part == "held_out" else splits)


def _scene(found: list[shapes.Question]) -> shapes.Scene:
    """The scene whose questions include all that were asked of an image, answers too."""
    asked = set(found)
    for shape in shapes.SHAPES:
        for color in shapes.COLOR_NAMES:
            scene = shapes.Scene(shape, color)
            if asked <= {q for group in shapes.questions(scene) for q in group}:
                return scene
    raise ValueError(f"no scene answers {found[0].text!r} and the other questions of its image")


def normalise(image: Image.Image) -> np.ndarray:
    """(3, 64, 64) float32 as CLIP's image processor makes of a 64x64 RGB image."""
    array = np.asarray(image.convert("RGB"), dtype=np.float32) / 255
    array = (array - np.array(CLIP_MEAN, np.float32)) / np.array(CLIP_STD, np.float32)
    return np.ascontiguousarray(array.transpose(2, 0, 1))


def make_batch(tokenizer: PreTrainedTokenizerFast, mix: Mix, *, seed: int, step: int) -> Batch:
    """The batch of one step: a pure function of its arguments, so a resumed run repeats it."""
    rng = np.random.default_rng([seed, step])
    return pack(tokenizer, [_picture(mix, rng) for _ in range(mix.images)])


def _picture(mix: Mix, rng: np.random.Generator) -> Picture:
    """A training picture of any kind, its questions written as clients write them."""
    drawn = mix.reading_share + mix.scenes_share
    kind = rng.random() if drawn else 1.0
    if kind < drawn:
        if kind < mix.reading_share:
            picture = sign_picture(rng, mix.questions)
        else:
            picture = scene_picture(rng, mix.questions, mix.scene_kinds)
    else:
        picture = _single_picture(mix, rng)
    varied = [_vary(q, rng) for q in picture.questions]
    if rng.random() < mix.caption_share:
        varied.append(captions.ask(picture.caption, rng))
    return replace(picture, questions=varied)


def _single_picture(mix: Mix, rng: np.random.Generator) -> Picture:
    """One shape: of easy-vqa's training split, or drawn."""
    if rng.random() < EASY_VQA_SHARE:
        splits = easy_vqa_split("train")
        split = splits[rng.integers(len(splits))]
        image, scene = Image.open(split.image_path).convert("RGB"), split.scene
    else:
        scene = shapes.random_scene(rng)
        image = shapes.draw(scene, rng)
    questions = shapes.ask(
        scene,
        mix.questions,
        rng,
        negated_share=mix.negated_share,
        presence_share=mix.presence_share,
        color_share=mix.color_share,
    )
    return Picture(normalise(image), questions, scene, caption=captions.single(scene))


def sign_picture(rng: np.random.Generator, questions: int) -> Picture:
    """A sign with that many questions."""
    sign = reading.random_sign(rng)
    pixels = normalise(reading.draw(sign, rng))
    asked = [reading.ask(sign, rng) for _ in range(questions)]
    plain = [shapes.Question(q.text, q.answer) for q in asked]
    found = labels.sign_labels(sign)
    return Picture(pixels, plain, patches=found, caption=captions.sign(sign))


def scene_picture(
    rng: np.random.Generator, questions: int, kinds: tuple[scenes.Asker, ...] = scenes.KINDS
) -> Picture:
    """A scene of several shapes with that many questions of some kinds."""
    scene = scenes.random_scene(rng)
    pixels = normalise(scenes.draw(scene, rng))
    asked = [scenes.ask(scene, rng, kinds) for _ in range(questions)]
    plain = [shapes.Question(q.text, q.answer) for q in asked]
    found = labels.scene_labels(scene)
    return Picture(pixels, plain, patches=found, caption=captions.scene(scene))


def held_out(kind: str, count: int, part: Part = "validation") -> list[Picture]:
    """Pictures that are never trained on: `easy-vqa`, `drawn-text` or `drawn-scenes`."""
    if kind == "easy-vqa":
        return [
            Picture(normalise(Image.open(s.image_path)), list(s.questions), s.scene)
            for s in easy_vqa_split("held_out")[:count]
        ]
    module, make = {
        "drawn-text": (reading, sign_picture),
        "drawn-scenes": (scenes, scene_picture),
    }[kind]
    return [make(module.picture_rng(part, number), 6) for number in range(count)]


def _vary(question: shapes.Question, rng: np.random.Generator) -> shapes.Question:
    """With or without the usual suffix, and at times capitalised, as clients write."""
    text = question.text
    if rng.random() < 0.2:
        text = text[0].upper() + text[1:]
    if rng.random() < 0.5:
        text += SUFFIX
    return shapes.Question(text, question.answer)


def pack(tokenizer: PreTrainedTokenizerFast, pictures: list[Picture]) -> Batch:
    """Pack each image's questions behind its prefix; rows are padded to the longest."""
    prefix = tokenizer.encode(f"{BOS}USER: " + IMAGE * IMAGE_TOKENS + "\n")
    rows = [_row(tokenizer, prefix, picture.questions) for picture in pictures]
    length = max(len(row[0]) for row in rows)
    count = len(rows)
    ids = torch.full((count, length), int(tokenizer.pad_token_id))
    positions = torch.zeros((count, length), dtype=torch.long)
    targets = torch.full((count, length), -100)
    segments = torch.full((count, length), -1)  # 0 = prefix, 1.. = question, -1 = padding
    for i, (row_ids, row_positions, row_targets, row_segments) in enumerate(rows):
        used = len(row_ids)
        ids[i, :used] = torch.tensor(row_ids)
        positions[i, :used] = torch.tensor(row_positions)
        targets[i, :used] = torch.tensor(row_targets)
        segments[i, :used] = torch.tensor(row_segments)
    query, key = segments[:, :, None], segments[:, None, :]
    causal = torch.ones(length, length, dtype=torch.bool).tril()
    seen = ((key == query) | (key == 0)) & causal
    mask = torch.zeros(count, 1, length, length).masked_fill(~seen[:, None], float("-inf"))
    return Batch(
        pixels=torch.from_numpy(np.stack([p.pixels for p in pictures])),
        input_ids=ids,
        positions=positions,
        mask=mask,
        targets=targets,
        shape_ids=torch.tensor(
            [shapes.SHAPES.index(p.scene.shape) if p.scene else -100 for p in pictures]
        ),
        color_ids=torch.tensor(
            [shapes.COLOR_NAMES.index(p.scene.color) if p.scene else -100 for p in pictures]
        ),
        patches=torch.from_numpy(
            np.stack([labels.no_labels() if p.patches is None else p.patches for p in pictures])
        ),
    )


def _row(
    tokenizer: PreTrainedTokenizerFast, prefix: list[int], questions: list[shapes.Question]
) -> tuple[list[int], list[int], list[int], list[int]]:
    """Token ids, positions, targets and segments of one packed row."""
    ids, positions = list(prefix), list(range(len(prefix)))
    targets, segments = [-100] * len(prefix), [0] * len(prefix)
    for number, question in enumerate(questions, start=1):
        start = tokenizer.encode(f"{question.text} ASSISTANT:")
        answer = [*tokenizer.encode(question.answer), tokenizer.convert_tokens_to_ids(EOS)]
        branch = start + answer
        ids += branch
        positions += range(len(prefix), len(prefix) + len(branch))
        targets += [-100] * (len(start) - 1) + answer + [-100]
        segments += [number] * len(branch)
    return ids, positions, targets, segments
