"""Ask a transformers model a dataset's questions, greedily, in process."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn

from compressor.evaluate.datasets import Example
from compressor.evaluate.metrics import score

MAX_NEW_TOKENS = 16
BATCH = 32


def conversation(example: Example) -> list[dict[str, Any]]:
    """The chat messages that ask an example's question."""
    parts = [{"type": "image"}, {"type": "text", "text": example.prompt}]
    return [{"role": "user", "content": parts}]


def render(processor: Any, example: Example) -> str:
    """The prompt's text, by the model's own chat template."""
    text = processor.apply_chat_template(conversation(example), add_generation_prompt=True)
    assert isinstance(text, str)
    return text


@torch.inference_mode()
def score_examples(
    model: nn.Module,
    processor: Any,
    examples: Sequence[Example],
    *,
    advance: Callable[[float], None] = lambda share: None,
) -> list[float]:
    """1.0 or 0.0 for each example; `advance` hears the share that is done."""
    scores: list[float] = []
    for start in range(0, len(examples), BATCH):
        chunk = examples[start : start + BATCH]
        inputs = processor(
            images=[e.image() for e in chunk],
            text=[render(processor, e) for e in chunk],
            padding=True, padding_side="left", add_special_tokens=False, return_tensors="pt",
        )  # fmt: skip
        generate: Any = model.generate
        output = generate(**inputs, max_new_tokens=MAX_NEW_TOKENS, do_sample=False)
        new = output[:, inputs["input_ids"].shape[1] :]
        texts = processor.batch_decode(new, skip_special_tokens=True)
        scores += [score(t, e.answers, e.metric) for t, e in zip(texts, chunk, strict=True)]
        advance(len(scores) / len(examples))
    return scores
