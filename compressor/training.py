"""What both kinds of training share: batches of questions, the task's loss, final hidden states."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from compressor import inputs
from compressor.evaluate.datasets import Example
from compressor.prompts import answer_lengths

_SHORT = 256
"""Tokens up to which plain attention is trained on a CPU."""


@dataclass(frozen=True)
class Batch:
    """Questions with their answers, as a model reads them."""

    arguments: dict[str, Tensor]
    """Of the model's forward, padded on the right."""
    answers: Tensor
    """(B, T - 1) bool: positions whose next token belongs to an answer."""
    used: Tensor
    """(B, T) bool: positions that are not padding."""


class Batches:
    """Batches drawn from a pool of questions: the one of a step is a function of (seed, step)."""

    def __init__(
        self,
        processor: Any,
        pool: Sequence[Example],
        *,
        batch: int,
        seed: int,
        device: torch.device,
    ) -> None:
        self._processor, self._pool = processor, pool
        self._batch, self._seed, self._device = batch, seed, device

    def at(self, step: int) -> Batch:
        """The batch of a step."""
        rng = np.random.default_rng([self._seed, step])
        chosen = [self._pool[i] for i in rng.integers(len(self._pool), size=self._batch)]
        return batch_of(self._processor, chosen, self._device)


def batch_of(processor: Any, chosen: Sequence[Example], device: torch.device) -> Batch:
    """These questions, with their answers and the token that ends a sequence."""
    end = processor.tokenizer.eos_token or ""
    given = inputs.prepare(processor, chosen, batch=len(chosen), ending=end)[0]
    ids, used = given["input_ids"], given["attention_mask"].bool()
    lengths = answer_lengths(processor, chosen, ending=end)
    answers = torch.zeros(ids.shape[0], ids.shape[1] - 1, dtype=torch.bool)
    for row, (stop, length) in enumerate(zip(used.sum(1).tolist(), lengths, strict=True)):
        answers[row, stop - length - 1 : stop - 1] = True
    arguments = {k: v.to(device) for k, v in given.items()}
    return Batch(arguments, answers.to(device), used.to(device))


def final_hidden(model: nn.Module, batch: Batch) -> Tensor:
    """(B, T, width): the decoder's last hidden states, behind its final norm."""
    return all_hidden(model, batch, only_last=True)[-1]


def all_hidden(model: nn.Module, batch: Batch, *, only_last: bool = False) -> tuple[Tensor, ...]:
    """(B, T, width) each: the decoder's input, its stream behind each layer, the last normed."""
    decoder: Any = model.get_submodule("model")
    with _attention(batch.used):
        output = decoder(**batch.arguments, use_cache=False, output_hidden_states=not only_last)
    return (output.last_hidden_state,) if only_last else tuple(output.hidden_states)


def _attention(used: Tensor) -> AbstractContextManager[None]:
    """The kernels of attention for a pass over (B, T) tokens.

    The backward pass of torch's flash attention takes two fifths of a step on a CPU where T is 90;
    plain products take a sixth of that, and their T^2 memory does not matter for so few tokens.
    """
    plain = torch.is_grad_enabled() and used.device.type == "cpu" and used.shape[1] <= _SHORT
    return sdpa_kernel(SDPBackend.MATH) if plain else nullcontext()


def task_loss(model: nn.Module, hidden: Tensor, batch: Batch) -> Tensor:
    """Cross-entropy of the answers' tokens, scalar."""
    head: Any = model.get_submodule("lm_head")
    logits = head(hidden[:, :-1][batch.answers])
    return F.cross_entropy(logits, batch.arguments["input_ids"][:, 1:][batch.answers])


def warmup_cosine(step: int, steps: int, *, warmup_share: float = 0.05) -> float:
    """The share of the peak learning rate at a step."""
    warmup = max(1, round(steps * warmup_share))
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + float(np.cos(np.pi * (step - warmup) / max(1, steps - warmup))))
