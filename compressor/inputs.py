"""Calibration inputs: prompts with their answers, and how much each position of them counts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from compressor.errors import DatasetError
from compressor.evaluate.datasets import Example, examples
from compressor.families import Family
from compressor.prompts import adds_special_tokens, answered, render

BATCH = 32
REFERENCE_DATASET = "easy-vqa"
REFERENCE_SAMPLES = 64


def prepare(
    processor: Any, chosen: Sequence[Example], *, batch: int = BATCH, ending: str = ""
) -> list[dict[str, Tensor]]:
    """Model inputs of prompts with their answers, right-padded, `batch` at a time."""
    return list(prepare_each(processor, chosen, batch=batch, ending=ending))


def prepare_each(
    processor: Any, chosen: Sequence[Example], *, batch: int = BATCH, ending: str = ""
) -> Iterator[dict[str, Tensor]]:
    """The same, one after another."""
    for start in range(0, len(chosen), batch):
        chunk = chosen[start : start + batch]
        text = answered(processor, chunk, ending=ending)
        inputs = processor(
            images=[e.image() for e in chunk], text=text, padding=True, padding_side="right",
            add_special_tokens=adds_special_tokens(processor, text[0]), return_tensors="pt",
        )  # fmt: skip
        yield {k: v for k, v in inputs.items() if isinstance(v, Tensor)}


def token_weights(
    batches: Sequence[Mapping[str, Tensor]], answers: Sequence[int], image_token: int
) -> list[Tensor]:
    """(B * T,) weights under which visual tokens, text, and answer positions count a third each.

    Unweighted, the many visual tokens would drown the few positions where the answer is decided.

    Args:
        batches: model inputs, right-padded.
        answers: how many of each example's last tokens are its answer.
        image_token: id of the visual placeholder.
    """
    kinds: list[Tensor] = []
    taken = 0
    for batch in batches:
        ids, mask = batch["input_ids"], batch["attention_mask"].bool()
        kind = torch.where(ids == image_token, 0, 1)
        ends = mask.sum(1)
        for row in range(len(ids)):
            end = int(ends[row])
            # The answer is decided one position before each of its tokens.
            kind[row, end - answers[taken] - 1 : end] = 2
            taken += 1
        kinds.append(kind.masked_fill(~mask, -1))
    counts = [sum(int((kind == k).sum()) for kind in kinds) for k in range(3)]
    present = sum(count > 0 for count in counts)
    return [
        sum(
            ((kind == k) / (count * present) for k, count in enumerate(counts) if count),
            start=torch.zeros(kind.shape),
        ).flatten()
        for kind in kinds
    ]


def image_token_id(processor: Any) -> int:
    """The id of the token that stands for one visual token in a prompt."""
    return int(processor.tokenizer.convert_tokens_to_ids(processor.image_token))


def reference_request(processor: Any, family: Family) -> tuple[int, int]:
    """(text tokens, image patches) of the request that FLOPs are counted for.

    The mean prompt of a fixed draw from the reference dataset, so that the figure depends on the model
    alone; patches are 0 where all images have one size.
    """
    asked = examples(REFERENCE_DATASET, "train", samples=REFERENCE_SAMPLES)
    image = processor.image_token
    texts = [render(processor, example).replace(image, "") for example in asked]
    special = adds_special_tokens(processor, texts[0])
    lengths = [len(processor.tokenizer.encode(t, add_special_tokens=special)) for t in texts]
    patches = family.image_patches(prepare(processor, asked[:1])[0])
    return round(sum(lengths) / len(lengths)), patches


def reference_prompt(processor: Any, text_tokens: int) -> tuple[tuple[int, ...], tuple[int, int]]:
    """A prompt with one image and so many text tokens, and the image's size in pixels.

    The prompt of the reference dataset that is nearest in length, with words before its last token
    repeated or left out; the visual placeholder is in it once.
    """
    token = image_token_id(processor)
    ids, example = _nearest(processor, text_tokens)
    head, tail = ids[:-1], ids[-1:]
    while len(head) + len(tail) - 1 > text_tokens and head[-1] != token:
        head.pop()
    words = head[head.index(token) + 1 :] or tail
    while len(head) + len(tail) - 1 < text_tokens:
        head += words[: text_tokens + 1 - len(head) - len(tail)]
    return (*head, *tail), example.image().size


def reference_inputs(processor: Any, text_tokens: int) -> dict[str, Tensor]:
    """Model inputs of the reference dataset's prompt that is nearest to so many text tokens."""
    _, example = _nearest(processor, text_tokens)
    text = render(processor, example)
    made = processor(
        images=[example.image()], text=[text],
        add_special_tokens=adds_special_tokens(processor, text), return_tensors="pt",
    )  # fmt: skip
    return {k: v for k, v in made.items() if isinstance(v, Tensor)}


def _nearest(processor: Any, text_tokens: int) -> tuple[list[int], Example]:
    """The tokens of the reference dataset's prompt that is nearest in length, and its question."""
    found: list[tuple[int, list[int], Example]] = []
    for example in examples(REFERENCE_DATASET, "train", samples=REFERENCE_SAMPLES):
        text = render(processor, example)
        special = adds_special_tokens(processor, text)
        ids = processor.tokenizer.encode(text, add_special_tokens=special)
        found.append((abs(len(ids) - 1 - text_tokens), ids, example))
    _, ids, example = min(found, key=lambda each: each[0])
    return ids, example


def mixture(names: Sequence[str], *, samples: int, seed: int) -> list[Example]:
    """Training examples of several datasets, in equal parts.

    Raises:
        DatasetError: a dataset is unknown, or has nothing to draw from.
    """
    found: list[Example] = []
    for number, name in enumerate(names):
        share = samples // len(names) + (number < samples % len(names))
        drawn = examples(name, "train", samples=share, seed=seed)
        if not drawn:
            raise DatasetError(f"Dataset {name!r} has no training questions to calibrate on.")
        found += drawn
    return found
