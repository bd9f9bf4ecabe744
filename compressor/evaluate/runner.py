"""Ask a transformers model a dataset's questions, greedily, in process."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import nn

from compressor.evaluate.example import MAX_NEW_TOKENS, Example
from compressor.evaluate.metrics import score
from compressor.prompts import adds_special_tokens, render

BATCH = 32


@torch.inference_mode()
def answer_examples(
    model: nn.Module, processor: Any, examples: Sequence[Example]
) -> Iterator[list[str]]:
    """What a model says to each question, `BATCH` of them at a time, in order.

    Raises:
        DatasetError: an image cannot be read.
    """
    device = next(model.parameters()).device
    generate: Any = model.generate
    for start in range(0, len(examples), BATCH):
        chunk = examples[start : start + BATCH]
        text = [render(processor, e) for e in chunk]
        inputs = processor(
            images=[e.image() for e in chunk], text=text, padding=True, padding_side="left",
            add_special_tokens=adds_special_tokens(processor, text[0]), return_tensors="pt",
        ).to(device)  # fmt: skip
        output = generate(**inputs, max_new_tokens=MAX_NEW_TOKENS, do_sample=False)
        new = output[:, inputs["input_ids"].shape[1] :]
        texts: list[str] = processor.batch_decode(new, skip_special_tokens=True)
        yield texts


def score_examples(
    model: nn.Module,
    processor: Any,
    examples: Sequence[Example],
    *,
    advance: Callable[[float], None] = lambda share: None,
) -> list[float]:
    """Between 0 and 1 for each example; `advance` hears the share that is done.

    Raises:
        DatasetError: an image cannot be read.
    """
    texts: list[str] = []
    for chunk in answer_examples(model, processor, examples):
        texts += chunk
        advance(len(texts) / len(examples))
    return [score(t, e.answers, e.metric) for t, e in zip(texts, examples, strict=True)]
