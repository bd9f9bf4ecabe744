"""What models answered, kept in a file as it comes, so that nothing is asked twice.

`answers.jsonl` in the work directory has a line for every answer. An answer belongs to a model, a
dataset, a question's id and a hash of everything else that it depends on (`Question.settings`).
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, NamedTuple

from compressor.errors import CompressorError
from compressor.evaluate.example import Example

FILE = "answers.jsonl"


class EvaluationError(CompressorError):
    """An evaluation asks for something impossible, or an endpoint does not answer."""


class Key(NamedTuple):
    """What an answer belongs to."""

    model: str
    dataset: str
    id: str
    settings: str


@dataclass(frozen=True)
class Question:
    """One question to one model."""

    model: str
    dataset: str
    example: Example
    settings: str
    """Hash of what the answer depends on beside the model's name: prompt, picture, sampling, ..."""

    @property
    def key(self) -> Key:
        """What its answer is kept under."""
        return Key(self.model, self.dataset, self.example.id, self.settings)


def questions(
    models: Mapping[str, Mapping[str, Any]], asked: Mapping[str, Sequence[Example]]
) -> list[Question]:
    """Every question to every model, in turns, so that a run that is cut off leaves pairs.

    Args:
        models: by name, what their answers depend on.
        asked: examples by dataset.
    """
    return [
        Question(model, dataset, example, _settings(example, settings))
        for dataset, chosen in asked.items()
        for example in chosen
        for model, settings in models.items()
    ]


def _settings(example: Example, settings: Mapping[str, Any]) -> str:
    everything = {**settings, "prompt": example.prompt, "picture": example.group}
    return hashlib.sha256(json.dumps(everything, sort_keys=True).encode()).hexdigest()[:16]


class AnswerLog:
    """Answers by key. A line that a kill tore is left out, and its question asked again."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / FILE
        self._known: dict[Key, str] = {}
        try:
            directory.mkdir(parents=True, exist_ok=True)
            self._file: BinaryIO = self.path.open("ab+")
            self._file.seek(0)
            content = self._file.read()
            if content and not content.endswith(b"\n"):
                self._file.write(b"\n")
        except OSError as error:
            raise EvaluationError(
                f"Answers cannot be kept in {str(directory)!r} ({error.strerror}); choose --work."
            ) from error
        for line in content.splitlines():
            self._read(line)

    def __enter__(self) -> AnswerLog:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()
        if not self._known:  # nothing to go on with
            with contextlib.suppress(OSError):
                self.path.unlink()
                self.path.parent.rmdir()

    def __contains__(self, question: Question) -> bool:
        return question.key in self._known

    def __getitem__(self, question: Question) -> str:
        return self._known[question.key]

    def missing(self, wanted: Iterable[Question]) -> list[Question]:
        """The questions that have no answer yet."""
        return [question for question in wanted if question not in self]

    def add(self, question: Question, text: str) -> None:
        """Keep an answer; it survives this process from here on.

        Raises:
            EvaluationError: the file cannot be written.
        """
        line = json.dumps({**question.key._asdict(), "text": text})
        try:
            self._file.write(line.encode() + b"\n")
            self._file.flush()
        except OSError as error:
            raise EvaluationError(
                f"{str(self.path)!r} cannot be written ({error.strerror}); make room and repeat."
            ) from error
        self._known[question.key] = text

    def _read(self, line: bytes) -> None:
        try:
            row = json.loads(line)
            key = Key(*(row[name] for name in Key._fields))
            self._known[key] = row["text"]
        except (ValueError, KeyError, TypeError):
            return
