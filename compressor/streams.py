"""Run a model's blocks one at a time over calibration data, and look inside them.

A `Stream` holds the residual stream at one depth of one tower, batch by batch. Only the layer at
hand runs, so the rest of the model need not be in memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from compressor.evaluate.datasets import Example
from compressor.evaluate.runner import render
from compressor.families import TowerSpec

BATCH = 32


class _Stop(Exception):  # noqa: N818 - control flow, never seen outside
    """Ends a forward pass once everything that was asked for has been seen."""


@dataclass
class Stream:
    """Residual stream and the blocks' other arguments, for every batch."""

    hidden: list[Tensor]  # each (B, T, width)
    arguments: list[dict[str, Any]]
    weights: list[Tensor]  # each (B, T), summing to 1 over all batches


@torch.inference_mode()
def prepare(processor: Any, examples: Sequence[Example]) -> list[dict[str, Tensor]]:
    """Model inputs of prompts with their answers, right-padded, `BATCH` at a time."""
    batches = []
    for start in range(0, len(examples), BATCH):
        chunk = examples[start : start + BATCH]
        inputs = processor(
            images=[e.image() for e in chunk],
            text=[render(processor, e) + e.answer for e in chunk],
            padding=True, padding_side="right", add_special_tokens=False, return_tensors="pt",
        )  # fmt: skip
        batches.append(dict(inputs))
    return batches


def token_weights(
    batches: Sequence[dict[str, Tensor]], answers: Sequence[int], image_token: int
) -> list[Tensor]:
    """(B, T) weights under which visual tokens, text, and answer positions count a third each.

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
        )
        for kind in kinds
    ]


@torch.inference_mode()
def enter(
    model: nn.Module, spec: TowerSpec, batches: Sequence[dict[str, Tensor]], weights: list[Tensor]
) -> Stream:
    """The stream at a tower's first block: the model runs up to there."""
    first = next(model.get_submodule(spec.layers).children())
    hidden: list[Tensor] = []
    arguments: list[dict[str, Any]] = []

    def catch(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        rest = dict(kwargs)
        hidden.append(args[0] if args else rest.pop("hidden_states"))
        if len(args) > 1:
            rest["attention_mask"] = args[1]
        arguments.append({k: v for k, v in rest.items() if k in _BLOCK_ARGUMENTS})
        raise _Stop

    handle = first.register_forward_pre_hook(catch, with_kwargs=True)
    try:
        for batch in batches:
            try:
                model(**batch, use_cache=False)
            except _Stop:
                continue
    finally:
        handle.remove()
    if spec.name == "vision":
        count = sum(h.shape[0] * h.shape[1] for h in hidden)
        weights = [torch.full(h.shape[:2], 1 / count) for h in hidden]
    return Stream(hidden, arguments, weights)


_BLOCK_ARGUMENTS = {"attention_mask", "position_embeddings", "position_ids"}


@torch.inference_mode()
def look(
    block: nn.Module, hidden: Tensor, arguments: dict[str, Any], *paths: str, stop: bool = False
) -> tuple[dict[str, Tensor], Tensor]:
    """Run one block; returns the inputs of the modules at `paths`, and the block's output.

    With `stop` the block ends at the last of `paths` before that module runs, so what follows may
    have a wrong shape; the output is then the block's input.
    """
    seen: dict[str, Tensor] = {}
    handles = []
    for path in paths:

        def catch(_: nn.Module, args: tuple[Tensor, ...], path: str = path) -> None:
            seen[path] = args[0]
            if stop and path == paths[-1]:
                raise _Stop

        handles.append(block.get_submodule(path).register_forward_pre_hook(catch))
    try:
        output = block(hidden, **arguments)
    except _Stop:
        output = hidden
    finally:
        for handle in handles:
            handle.remove()
    return seen, output[0] if isinstance(output, tuple) else output


def advance(block: nn.Module, stream: Stream) -> None:
    """Move a stream past a block."""
    for i, (hidden, arguments) in enumerate(zip(stream.hidden, stream.arguments, strict=True)):
        stream.hidden[i] = look(block, hidden, arguments)[1]
