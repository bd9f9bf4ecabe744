"""Run one cell of the comparison and keep it, so that the harness goes on where it was."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import AutoProcessor

from bench.compress.context import DATASETS, Context
from bench.compress.methods import METHODS
from bench.machine import commit, describe
from compressor.checkpoint import sha256_of
from compressor.errors import BudgetError
from compressor.evaluate.datasets import Example, examples
from compressor.evaluate.runner import score_examples
from compressor.heal import make_optimizer, recover
from compressor.job import compute_device
from compressor.recipe import Recovery

RECOVERY = Recovery(steps=500)
_EVALUATION_SEED = 2026


@dataclass(frozen=True)
class Cell:
    """One method at one budget with one seed."""

    method: str
    budget: float
    """How many times fewer FLOPs."""
    seed: int
    recovered: bool = False

    @property
    def name(self) -> str:
        """Of its file."""
        end = "-recovered" if self.recovered else ""
        return f"{self.method.replace('/', '-')}-{self.budget:g}x-{self.seed}{end}"

    @property
    def recovery(self) -> dict[str, Any] | None:
        """The settings of its recovery, without what only depends on the machine."""
        return RECOVERY.model_dump(exclude={"bf16"}) if self.recovered else None


@dataclass(frozen=True)
class Outcome:
    """What a cell came to."""

    share: float | None
    """FLOPs over the original's; None: the method cannot reach the budget."""
    params: int
    scores: dict[str, list[float]]
    """Of each question, by dataset."""
    seconds: float
    """To compress, with what is shared by all budgets of a seed counted where it was first needed."""
    recovery_seconds: float = 0.0
    recovery: dict[str, Any] | None = None
    """As the cell's."""
    machine: str = field(default_factory=describe)
    """Where it was run: seconds are of that machine."""
    revision: int = 1
    """Of the method."""
    commit: str = field(default_factory=commit)
    """Of the code that made it."""


class Harness:
    """Cells in a directory, a file each; those of earlier machines are with the results."""

    def __init__(self, source: Path, directory: Path, samples: int, results: Path) -> None:
        """`results`: the cells that were published; `publish` adds to them."""
        self.source = source
        weights = "".join(sha256_of(p) for p in sorted(source.glob("*.safetensors")))
        key = f"{source.name}-{weights[:8]}-n{samples}"
        self.directory, self._published = directory / key, results / "cells" / key
        self.directory.mkdir(parents=True, exist_ok=True)
        self._samples = samples
        self._contexts: dict[int, Context] = {}

    def context(self, seed: int) -> Context:
        """What the cells of a seed share."""
        if seed not in self._contexts:
            self._contexts = {seed: Context(self.source, self.directory / "work", seed)}
        return self._contexts[seed]

    def asked(self) -> dict[str, list[Example]]:
        """The test questions, the same for every cell."""
        return {
            name: examples(name, "test", samples=self._samples, seed=_EVALUATION_SEED)
            for name in DATASETS
        }

    def has(self, cell: Cell) -> bool:
        """Whether a cell is done."""
        return self.read(cell) is not None

    def read(self, cell: Cell) -> Outcome | None:
        """A cell's outcome, if it is done; one of another recovery or revision does not count."""
        expected = (cell.recovery, METHODS[cell.method].revision)
        for found in self._found(cell.name):
            if (found.recovery, found.revision) == expected:
                return found
        return None

    def original(self) -> Outcome:
        """The original on the same questions."""
        found = next(self._found("original"), None)
        if found is None:
            model = self.context(0).model()
            found = Outcome(1.0, _parameters(model), self._score(model), 0.0)
            self._write(self._path("original"), found)
        return found

    def publish(self, cells: Iterable[Cell]) -> None:
        """Put finished cells to the results, so that another machine goes on from them."""
        self._published.mkdir(parents=True, exist_ok=True)
        found = {cell.name: self.read(cell) for cell in cells}
        for name, outcome in {"original": self.original(), **found}.items():
            if outcome is not None:
                self._write(self._published / f"{name}.json", outcome)

    def run(self, cell: Cell) -> Outcome:
        """Compress, recover where it is asked for, ask the questions, keep the outcome."""
        context, method = self.context(cell.seed), METHODS[cell.method]
        started = time.monotonic()
        try:
            made = method.make(context, 1 / cell.budget)
        except BudgetError:
            outcome = Outcome(
                None, 0, {}, time.monotonic() - started, recovery=cell.recovery,
                revision=method.revision,
            )  # fmt: skip
            self._write(self._path(cell.name), outcome)
            return outcome
        seconds = time.monotonic() - started
        spent = self._recover(context, made.model) if cell.recovered else 0.0
        scores = self._score(made.model)
        outcome = Outcome(
            made.share, _parameters(made.model), scores, seconds, spent, recovery=cell.recovery,
            revision=method.revision,
        )  # fmt: skip
        self._write(self._path(cell.name), outcome)
        return outcome

    def _recover(self, context: Context, student: nn.Module) -> float:
        started = time.monotonic()
        device = compute_device()
        batches = context.batches(RECOVERY.batch, samples=RECOVERY.samples, offset=1, device=device)
        torch.manual_seed(context.seed)
        student.to(device)
        optimizer = make_optimizer(student, RECOVERY)
        recover(student, context.model().to(device), batches, RECOVERY, optimizer)
        return time.monotonic() - started

    def _score(self, model: nn.Module) -> dict[str, list[float]]:
        processor: Any = AutoProcessor.from_pretrained(self.source)
        model.to(compute_device())
        return {
            name: score_examples(model.eval(), processor, chosen)
            for name, chosen in self.asked().items()
        }

    def _found(self, name: str) -> Iterator[Outcome]:
        """This machine's own first, then the published one."""
        for path in (self._path(name), self._published / f"{name}.json"):
            if path.exists():
                # Cells of before commits were written down have none.
                yield Outcome(**{"commit": "", **json.loads(path.read_text())})

    def _path(self, name: str) -> Path:
        return self.directory / f"{name}.json"

    def _write(self, path: Path, outcome: Outcome) -> None:
        temporary = path.with_suffix(".tmp")
        content = asdict(outcome)
        content["scores"] = {name: [_short(s) for s in own] for name, own in outcome.scores.items()}
        temporary.write_text(json.dumps(content, separators=(",", ":")) + "\n")
        temporary.replace(path)


def grid(methods: Iterable[str], budgets: Iterable[float], seeds: Iterable[int]) -> list[Cell]:
    """Cells seed by seed, so that what a seed's methods share is computed once."""
    chosen, wanted = list(methods), list(budgets)
    return [
        Cell(method, budget, seed)
        for seed in seeds
        for method in chosen
        for budget in wanted
        if seed == 0 or METHODS[method].seeds_matter
    ]


def _short(score: float) -> float:
    """A score as few characters write it: most are 0 or 1."""
    return int(score) if score == int(score) else round(score, 6)


def _parameters(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())
