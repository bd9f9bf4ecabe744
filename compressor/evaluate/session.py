"""One evaluation: which models, where they are asked, and that nothing is asked twice."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from compressor.checkpoint import read_config
from compressor.evaluate.answers import AnswerLog, EvaluationError, Question, questions
from compressor.evaluate.endpoint import (
    Retry,
    Turn,
    api_root,
    ask_endpoint,
    at_once,
    open_endpoint,
)
from compressor.evaluate.example import MAX_NEW_TOKENS, Example

MAX_MODELS = 2


@dataclass(frozen=True)
class Served:
    """Models behind an endpoint."""

    url: str
    names: tuple[str, ...]
    api_key: str | None
    concurrency: int
    retry: Retry
    turn: Turn = at_once
    """Awaited before every question: whoever shares the endpoint may go first."""
    headers: Mapping[str, str] = field(default_factory=dict)
    """Sent with every question."""

    @property
    def place(self) -> str:
        """Where they are asked, for reports."""
        return f"through {api_root(self.url)}"

    def settings(self) -> dict[str, dict[str, Any]]:
        """By model, what its answers depend on beside its name."""
        depends = {"endpoint": api_root(self.url), "max_tokens": MAX_NEW_TOKENS, "temperature": 0}
        return dict.fromkeys(self.names, depends)


@dataclass(frozen=True)
class Local:
    """Model directories, by name."""

    directories: dict[str, Path]

    @property
    def place(self) -> str:
        """Where they are asked, for reports."""
        return "in process"

    def settings(self) -> dict[str, dict[str, Any]]:
        """By model, what its answers depend on beside its name."""
        # Only now: torch takes seconds to import, an endpoint does not need it.
        from compressor.evaluate import local

        return {name: local.settings(path) for name, path in self.directories.items()}


def local_side(directories: list[Path], names: list[str], api_key_env: str | None) -> Local:
    """The models to ask in process.

    Raises:
        EvaluationError: the arguments do not go together.
        CheckpointError: a directory is no model.
    """
    if names or api_key_env:
        raise EvaluationError("--model and --api-key-env belong to an --endpoint; give its URL.")
    check_count(len(directories), len({path.resolve() for path in directories}))
    short = [path.resolve().name for path in directories]
    unique = short if len(set(short)) == len(short) else [str(path) for path in directories]
    for path in directories:
        read_config(path)
    return Local(dict(zip(unique, directories, strict=True)))


def served_side(
    url: str,
    directories: list[Path],
    names: list[str],
    api_key_env: str | None,
    concurrency: int,
    attempts: int,
) -> Served:
    """The models to ask at an endpoint.

    Raises:
        EvaluationError: the arguments do not go together, or the key's variable is not set.
    """
    if directories:
        raise EvaluationError(
            "Give either model directories or an --endpoint, whose models --model names."
        )
    if not url.startswith(("http://", "https://")):
        raise EvaluationError(f"The endpoint {url!r} is no URL; write it as http://HOST:PORT.")
    check_count(len(names), len(set(names)))
    return Served(url, tuple(names), read_key(api_key_env), concurrency, Retry(attempts=attempts))


def check_count(given: int, different: int) -> None:
    """One model or two.

    Raises:
        EvaluationError: none is given, too many are, or the same one twice.
    """
    if not given:
        raise EvaluationError(
            "There is no model to evaluate; name a directory, or --model of an --endpoint."
        )
    if given > MAX_MODELS:
        raise EvaluationError("At most two models are compared at a time; leave the others out.")
    if different < given:
        raise EvaluationError("The two models are the same one; give two different ones.")


def read_key(variable: str | None) -> str | None:
    """The endpoint's key from the environment.

    Raises:
        EvaluationError: the variable is not set.
    """
    if variable is None:
        return None
    key = os.environ.get(variable)
    if not key:
        raise EvaluationError(f"The environment variable {variable}, for the key, is not set.")
    return key


def ask(
    side: Served | Local,
    asked: Mapping[str, Sequence[Example]],
    log: AnswerLog,
    *,
    started: Callable[[int, int], None] = lambda total, known: None,
    advance: Callable[[Question], None] = lambda question: None,
) -> dict[str, dict[str, list[str]]]:
    """Every model's answers, by model and dataset, in the examples' order.

    Args:
        side: the models.
        asked: examples by dataset.
        log: holds what was answered before, and gets what is answered now.
        started: hears how many answers are needed and how many of them are known.
        advance: hears of every question that is answered.

    Raises:
        CompressorError: something could not be asked; the answers until then are in the log.
    """
    wanted = questions(side.settings(), asked)
    todo = log.missing(wanted)
    started(len(wanted), len(wanted) - len(todo))
    if todo and isinstance(side, Served):
        asyncio.run(_ask_served(side, todo, log, advance))
    elif todo and isinstance(side, Local):
        from compressor.evaluate.local import ask_in_process

        ask_in_process(side.directories, todo, log, advance=advance)
    said: dict[str, dict[str, list[str]]] = {}
    for question in wanted:
        texts = said.setdefault(question.model, {}).setdefault(question.dataset, [])
        texts.append(log[question])
    return said


async def _ask_served(
    side: Served, todo: list[Question], log: AnswerLog, advance: Callable[[Question], None]
) -> None:
    async with open_endpoint(
        side.url,
        api_key=side.api_key,
        concurrency=side.concurrency,
        retry=side.retry,
        headers=side.headers,
    ) as endpoint:
        await ask_endpoint(
            endpoint, todo, log, concurrency=side.concurrency, advance=advance, turn=side.turn
        )
