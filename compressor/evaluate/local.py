"""Ask a model directory's questions in this process."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import torch
from torch import nn

from compressor.checkpoint import MANIFEST
from compressor.evaluate.answers import AnswerLog, Question
from compressor.evaluate.example import MAX_NEW_TOKENS
from compressor.evaluate.runner import answer_examples
from compressor.loading import asking_dtype, load


def settings(directory: Path) -> dict[str, Any]:
    """What a model's answers in this process depend on."""
    return {
        "model": fingerprint(directory),
        "device": _device().type,
        "max_new_tokens": MAX_NEW_TOKENS,
    }


def fingerprint(directory: Path) -> str:
    """Changes when the model does: by its manifest, else by its files' sizes and times."""
    if (directory / MANIFEST).is_file():
        content = (directory / MANIFEST).read_bytes()
    else:
        files = sorted(path for path in directory.iterdir() if path.is_file())
        stats = [(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in files]
        content = repr(stats).encode()
    return hashlib.sha256(content).hexdigest()


def ask_in_process(
    directories: dict[str, Path],
    todo: Sequence[Question],
    log: AnswerLog,
    *,
    advance: Callable[[Question], None],
) -> None:
    """Ask one model after the other, one in memory at a time; every batch is kept as it comes.

    Args:
        directories: of the models, by name.
        todo: what to ask.
        log: where answers go.
        advance: hears of every question that is answered.

    Raises:
        CheckpointError: a directory is not a whole model.
        UnsupportedArchitectureError: no family knows it.
        DatasetError: an image cannot be read.
    """
    ordered = sorted(todo, key=lambda question: question.model)
    for name, asked in groupby(ordered, key=lambda question: question.model):
        waiting = list(asked)
        model, processor = open_model(directories[name])
        for question, text in zip(waiting, _answers(model, processor, waiting), strict=True):
            log.add(question, text)
            advance(question)
        del model


def _answers(model: nn.Module, processor: Any, asked: Sequence[Question]) -> Iterator[str]:
    for texts in answer_examples(model, processor, [question.example for question in asked]):
        yield from texts


def open_model(directory: Path) -> tuple[nn.Module, Any]:
    """Model and processor: on the GPU in the checkpoint's own type, on a CPU in float32."""
    from transformers import AutoProcessor

    device = _device()
    return load(directory, dtype=asking_dtype(device)).to(device), AutoProcessor.from_pretrained(
        directory
    )


def _device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
