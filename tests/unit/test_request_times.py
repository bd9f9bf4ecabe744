"""The time of a request in a report: measured in turns, kept by machine and plan."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoProcessor

from compressor.checkpoint import sha256_of
from compressor.inputs import reference_inputs
from compressor.latency.request import RequestTimes, time_in_turns, times_of
from compressor.pipeline import compress
from compressor.recipe import parse_recipe
from compressor.report.card import rows
from compressor.report.write import page_of
from tests.support.random_vlm import write_random_llava

RECIPE = {
    "flops": 0.5,
    "new_tokens": 2,
    "calibration": {"samples": 16},
    "evaluation": {"samples": 8},
    "round_to": 4,
}
CONFIG = {"model_type": "llava"}


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models") / "original"
    write_random_llava(path, kv_heads=4)
    return path


def measured(
    cache: Path, seconds: float, *, plan: str = "a plan", by: str = "here"
) -> RequestTimes:
    """What is known of a plan, where a measurement would give so many seconds and half of them."""
    return times_of(cache, CONFIG, plan, by, lambda: ([seconds] * 3, [seconds / 2] * 3))


def test_what_was_measured_once_is_not_measured_again(tmp_path: Path) -> None:
    first = measured(tmp_path, 1.0)
    assert (first.original_s, first.compressed_s, first.spread) == (1.0, 0.5, 0.0)
    assert measured(tmp_path, 8.0) == first
    # Another plan, and another machine or version, are other times.
    assert measured(tmp_path, 8.0, plan="another").original_s == 8.0
    assert measured(tmp_path, 8.0, by="elsewhere").original_s == 8.0


def test_a_file_that_cannot_be_read_is_measured_anew(tmp_path: Path) -> None:
    measured(tmp_path, 1.0)
    (kept,) = (tmp_path / "latency" / "requests").iterdir()
    kept.write_text("{")
    assert measured(tmp_path, 8.0).original_s == 8.0
    assert measured(tmp_path, 1.0).original_s == 8.0  # kept whole again


def test_times_that_spread_are_called_doubtful(tmp_path: Path) -> None:
    noisy = times_of(tmp_path, CONFIG, "p", "here", lambda: ([1, 1, 2, 2], [1, 1, 1, 1]))
    assert noisy.told.startswith("here; ")
    assert "not quiet" in noisy.told
    assert "not quiet" not in measured(tmp_path, 1.0).told


def test_both_models_are_timed_in_turns(original: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Path] = []

    def times(directory: Path, *rest: Any) -> list[float]:
        asked.append(directory)
        rest[-1](1.0)  # all of the turn is done
        return [1.0, 2.0]

    monkeypatch.setattr("compressor.latency.request._times", times)
    other, shares = original.parent / "other", list[float]()
    first, second = time_in_turns(
        (original, other), {}, 2, torch.device("cpu"), advance=shares.append
    )
    assert asked == [original, other, original, other]
    assert first == second == [1.0, 2.0, 1.0, 2.0]
    assert shares == [0.25, 0.5, 0.75, 1.0]


def test_slow_models_are_asked_once(original: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("compressor.latency.request._TURN_S", 0.0)
    monkeypatch.setattr("compressor.latency.request._ROUND_S", 0.0)
    processor = AutoProcessor.from_pretrained(original)
    asked = reference_inputs(processor, 25)
    first, second = time_in_turns(
        (original, original), asked, 1, torch.device("cpu"), advance=lambda share: None
    )
    assert len(first) == len(second) == 1, "the run that warms up"


def test_times_that_cannot_be_kept_are_told_all_the_same(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert measured(tmp_path / "file", 1.0).original_s == 1.0
    assert measured(tmp_path / "file", 2.0).original_s == 2.0


def test_a_single_run_is_called_one(tmp_path: Path) -> None:
    once = times_of(tmp_path, CONFIG, "p", "here", lambda: ([1.0], [0.5]))
    assert once.told == "here; a single run of each"


def test_a_report_has_the_time_of_a_request_and_is_the_same_again(
    original: Path, tmp_path: Path
) -> None:
    made, again = tmp_path / "made", tmp_path / "again"
    recipe, kept = parse_recipe(RECIPE), tmp_path / "kept"
    report = compress(original, recipe, made, times=kept)
    assert report.original.latency_s
    assert report.compressed.latency_s
    assert report.latency_by is not None
    assert "2 answer tokens" in report.latency_by
    assert "float32" in report.latency_by
    assert "latency of a request, ms" in {name for name, _, _ in rows(report)}
    for shown in ((made / "README.md").read_text(), page_of(made).read_text()):
        assert report.latency_by in shown

    compress(original, recipe, again, times=kept)
    files = sorted(p.relative_to(made) for p in made.rglob("*") if p.is_file())
    assert all(sha256_of(made / name) == sha256_of(again / name) for name in files)


def test_nothing_is_timed_where_nothing_is_asked(original: Path, tmp_path: Path) -> None:
    recipe = parse_recipe(RECIPE | {"evaluation": {"samples": 0}})
    report = compress(original, recipe, tmp_path / "made", times=tmp_path / "kept")
    assert report.original.latency_s is None
    assert report.latency_by is None
