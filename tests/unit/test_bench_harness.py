"""The comparison goes on where it was: which cells count, which are missing, in which order."""

from __future__ import annotations

import json
import sys
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from torch import nn

from bench.compress import __main__ as command
from bench.compress import harness as module
from bench.compress.context import Context
from bench.compress.harness import RECOVERY, Cell, Harness, Outcome, grid
from bench.compress.methods import ABLATIONS, BASELINES, CONTROL, METHODS, OWN, Made, Method
from bench.compress.tables import Row
from compressor.errors import BudgetError
from compressor.evaluate.example import Example

FAKE = "fake-for-tests"
SAMPLES = 2
COMMIT = "0123abc+"


@dataclass
class FakeMethod:
    """Makes a model of three weights, which it cuts to nothing, and remembers what it was asked."""

    asked: list[tuple[int, float]] = field(default_factory=list)

    def __call__(self, context: Context, share: float) -> Made:
        self.asked.append((context.seed, share))
        if share < 0.1:
            raise BudgetError("Too small.")
        return Made(nn.Linear(3, 1, bias=False), share)


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakeMethod:
    """A method beside the real ones; questions are answered at once and recovery is none."""

    def git(*_: object, **__: object) -> SimpleNamespace:
        return SimpleNamespace(stdout=f"{COMMIT}\n")

    def answers(model: nn.Module, processor: object, chosen: Sequence[Example]) -> list[float]:
        del model, processor
        return [1 / 3] * len(chosen)

    made = FakeMethod()
    monkeypatch.setitem(METHODS, FAKE, Method(FAKE, "both", "not a method", made, revision=2))
    monkeypatch.setattr("subprocess.run", git)  # of `machine.commit`
    monkeypatch.setattr(module, "DATASETS", ("easy-vqa",))
    monkeypatch.setattr(module, "score_examples", answers)
    monkeypatch.setattr("transformers.AutoProcessor.from_pretrained", lambda source: None)
    monkeypatch.setattr(Harness, "_recover", lambda self, context, student: 7.0)
    return made


@pytest.fixture
def harness(tmp_path: Path, fake: FakeMethod) -> Harness:
    del fake
    return opened(tmp_path)


def opened(place: Path, runs: str = "runs") -> Harness:
    """A harness of a model that nobody may load, whose own answers are there already."""
    source = place / "model"
    source.mkdir(exist_ok=True)
    (source / "model.safetensors").write_bytes(b"weights")
    found = Harness(source, place / runs, SAMPLES, place / "results")
    keep(found, "original", outcome())
    return found


def outcome(**changed: Any) -> Outcome:
    plain: dict[str, Any] = {
        "share": 0.5, "params": 3, "scores": {"easy-vqa": [1.0] * SAMPLES}, "seconds": 1.0,
        "machine": "fake", "commit": "fake", "revision": 2,
    }  # fmt: skip
    return Outcome(**(plain | changed))


def keep(harness: Harness, name: str, found: Outcome) -> Path:
    """A cell's file as another run left it."""
    path = harness.directory / f"{name}.json"
    harness._write(path, found)
    return path


def published(harness: Harness, cell: Cell, found: Outcome) -> None:
    harness._published.mkdir(parents=True, exist_ok=True)
    harness._write(harness._published / f"{cell.name}.json", found)


CELL = Cell(FAKE, 2.0, 0)


def test_a_cell_is_kept_as_it_came_out(harness: Harness, fake: FakeMethod) -> None:
    assert not harness.has(CELL)
    found = harness.run(CELL)
    assert fake.asked == [(0, 0.5)]
    assert (found.share, found.params, found.revision, found.recovery) == (0.5, 3, 2, None)
    assert found.commit == COMMIT
    assert harness.read(CELL) == replace(found, scores={"easy-vqa": [0.333333] * SAMPLES})


def test_a_budget_that_cannot_be_reached_is_an_outcome_too(harness: Harness) -> None:
    cell = Cell(FAKE, 20.0, 0)
    assert harness.run(cell).share is None
    assert harness.has(cell)


def test_recovery_is_another_cell_and_one_of_other_settings_does_not_count(
    harness: Harness,
) -> None:
    recovered = replace(CELL, recovered=True)
    harness.run(CELL)
    assert not harness.has(recovered)
    found = harness.run(recovered)
    assert found.recovery_seconds == 7.0
    assert found.recovery == RECOVERY.model_dump(exclude={"bf16"})
    assert harness.has(recovered)
    settings = {**found.recovery, "steps": RECOVERY.steps + 1}
    keep(harness, recovered.name, outcome(recovery=settings))
    assert not harness.has(recovered)


def test_a_cell_of_another_revision_does_not_count(harness: Harness) -> None:
    keep(harness, CELL.name, outcome(revision=1))
    assert not harness.has(CELL)
    keep(harness, CELL.name, outcome())
    assert harness.has(CELL)


def test_the_published_cell_is_used_where_it_matches_and_our_own_first(harness: Harness) -> None:
    published(harness, CELL, outcome(share=0.4))
    assert harness.read(CELL) == outcome(share=0.4)
    keep(harness, CELL.name, outcome(revision=1))  # ours is of before a change of the method
    assert harness.read(CELL) == outcome(share=0.4)
    keep(harness, CELL.name, outcome())
    assert harness.read(CELL) == outcome()
    published(harness, CELL, outcome(revision=3))
    keep(harness, CELL.name, outcome(revision=1))
    assert harness.read(CELL) is None


def test_a_cell_of_before_commits_were_written_down_counts(harness: Harness) -> None:
    """And is not said to be of the commit that reads it."""
    path = keep(harness, CELL.name, outcome())
    content = json.loads(path.read_text())
    del content["commit"]
    path.write_text(json.dumps(content))
    assert harness.read(CELL) == outcome(commit="")


def test_a_file_that_is_half_written_is_no_cell(harness: Harness, fake: FakeMethod) -> None:
    half = keep(harness, CELL.name, outcome()).with_suffix(".tmp")
    (harness.directory / f"{CELL.name}.json").rename(half)
    half.write_text(half.read_text()[:20])
    assert not harness.has(CELL)
    harness.run(CELL)
    assert len(fake.asked) == 1
    assert harness.has(CELL)
    assert not half.exists()


def test_another_machine_goes_on_from_what_was_published(harness: Harness, tmp_path: Path) -> None:
    missing = Cell(FAKE, 3.2, 0)
    harness.run(CELL)
    harness.publish([CELL, missing])
    elsewhere = opened(tmp_path, "other-runs")
    assert elsewhere.directory != harness.directory
    assert elsewhere.read(CELL) == harness.read(CELL)
    assert not elsewhere.has(missing)


def test_cells_of_other_weights_or_another_number_of_questions_are_elsewhere(
    harness: Harness, tmp_path: Path
) -> None:
    harness.run(CELL)
    more = Harness(harness.source, tmp_path / "runs", SAMPLES + 1, tmp_path / "results")
    (harness.source / "model.safetensors").write_bytes(b"other weights")
    other = Harness(harness.source, tmp_path / "runs", SAMPLES, tmp_path / "results")
    assert harness.has(CELL)
    assert not more.has(CELL)
    assert not other.has(CELL)


def test_the_command_runs_what_is_missing_and_nothing_twice(
    harness: Harness, fake: FakeMethod, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reports = []
    monkeypatch.setattr(command, "write", lambda _, cells, args: reports.append(cells))
    monkeypatch.setattr(
        sys, "argv",
        ["compress", "--model", str(harness.source), "--runs", str(tmp_path / "runs"),
         "--out", str(tmp_path / "results"), "--samples", str(SAMPLES),
         "--methods", FAKE, "--budgets", "2", "4", "--seeds", "0", "1"],
    )  # fmt: skip
    command.main()
    assert fake.asked == [(0, 0.5), (0, 0.25), (1, 0.5), (1, 0.25)]
    (harness.directory / f"{Cell(FAKE, 4.0, 0).name}.json").unlink()
    command.main()
    assert fake.asked[4:] == [(0, 0.25)]
    sys.argv.append("--report")
    (harness.directory / f"{Cell(FAKE, 4.0, 0).name}.json").unlink()
    command.main()
    assert len(fake.asked) == 5
    assert reports == [grid([FAKE], [2.0, 4.0], [0, 1])] * 3


def arguments(**changed: Any) -> Namespace:
    plain = {"methods": None, "budgets": command.HARD, "seeds": (0,), "recovered": False}
    return Namespace(**(plain | changed))


FIRST = [Cell(m.name, b, 0) for m in (*BASELINES, *OWN) for b in command.HARD]
ABLATED = [Cell(m.name, b, 0) for m in ABLATIONS for b in command.HARD]


def finish(harness: Harness, better: Sequence[str]) -> None:
    """Every first cell; the methods of `better` are right more often, the first the most."""
    for cell in FIRST:
        rank = better.index(cell.method) if cell.method in better else len(better)
        scores = {"easy-vqa": [1 - rank / 10] * SAMPLES}
        revision = METHODS[cell.method].revision
        keep(harness, cell.name, outcome(scores=scores, revision=revision))


def test_recovery_is_planned_once_it_is_known_of_whom(harness: Harness) -> None:
    best = ["svd-llm", "random", "flap"]
    finish(harness, better=["ours", *best])
    last = harness.directory / f"{FIRST[-1].name}.json"
    content = last.read_text()
    last.unlink()
    assert command.planned(harness, arguments()) == FIRST + ABLATED

    last.write_text(content)
    names = [*best, *(m.name for m in OWN)]
    recovered = [Cell(name, b, 0, recovered=True) for name in names for b in command.HARD]
    control = Cell(CONTROL.name, 1.0, 0, recovered=True)
    assert command.planned(harness, arguments()) == [*FIRST, *ABLATED, *recovered, control]


def test_chosen_methods_are_planned_alone_with_recovery_where_it_is_asked_for(
    harness: Harness,
) -> None:
    chosen = [Cell(name, b, 0) for name in ("flap", "heads/ks") for b in (2.0, 5.0)]
    asked = arguments(methods=["flap", "heads/ks"], budgets=(2.0, 5.0))
    assert command.planned(harness, asked) == chosen
    asked.recovered = True
    assert command.planned(harness, asked) == [replace(cell, recovered=True) for cell in chosen]


def test_cells_go_seed_by_seed_and_what_no_seed_changes_is_run_once() -> None:
    assert not METHODS["magnitude"].seeds_matter
    assert grid(["magnitude", "flap"], [2.0, 5.0], [0, 3]) == [
        Cell("magnitude", 2.0, 0), Cell("magnitude", 5.0, 0),
        Cell("flap", 2.0, 0), Cell("flap", 5.0, 0),
        Cell("flap", 2.0, 3), Cell("flap", 5.0, 3),
    ]  # fmt: skip


def test_no_two_cells_have_one_file() -> None:
    """A name has no `/`, which a method's may have."""
    cells = [
        Cell(name, budget, seed, recovered)
        for name in METHODS
        for budget in command.BUDGETS
        for seed in (0, 1)
        for recovered in (False, True)
    ]
    assert len({cell.name for cell in cells}) == len(cells)
    assert not any("/" in cell.name for cell in cells)


def row(method: str, budget: float, mean: float, **changed: Any) -> Row:
    plain: dict[str, Any] = {"recovered": False, "share": 0.3, "accuracy": {}, "by_seed": {}}
    return Row(method, budget, mean=mean, difference=None, seconds=0, **(plain | changed))


def test_the_best_baselines_are_the_three_highest_at_the_hard_budgets() -> None:
    hard = {"taylor": (0.6, 0.6), "random": (0.9, 0.1), "svd": (0.7, 0.6), "flap": (0.5, 0.9)}
    hard |= {"ours": (1.0, 1.0), "heads/ks": (1.0, 1.0)}
    rows = [row(m, b, v) for m, own in hard.items() for b, v in zip(command.HARD, own, strict=True)]
    rows += [row("random", 1.5, 1.0), row("random", 2.0, 1.0)]  # easy budgets do not count
    rows += [row("random", b, 1.0, recovered=True) for b in command.HARD]
    rows += [row("hies", command.HARD[0], 1.0), row("hies", command.HARD[1], 1.0, share=None)]
    rows += [row("entropy", command.HARD[0], 1.0)]
    assert command.best_baselines(rows) == ["flap", "svd", "taylor"]
    assert command.best_baselines(rows, 4) == ["flap", "svd", "taylor", "random"]
