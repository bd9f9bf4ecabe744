"""A disk that is really full: one sentence, nothing half-written, and the same command goes on.

Where no file system can be mounted, a file that may not grow any further (RLIMIT_FSIZE) stands for it:
the system's answer to the write has another number, and all that follows is the same.
"""

from __future__ import annotations

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from typer.testing import CliRunner

from compressor.checkpoint import sha256_of, verify
from compressor.errors import DiskFullError
from compressor.job import Stage
from compressor.pipeline import compress
from compressor.recipe import parse_recipe
from service.cli import app
from tests.support.disk import fill, small_disk
from tests.support.random_vlm import write_random_llava

RECIPE = {
    "flops": 0.5,
    "calibration": {"samples": 16},
    "evaluation": {"samples": 4},
    "round_to": 4,
}


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    with small_disk(tmp_path / "disk") as place:
        yield place


@pytest.mark.parametrize(
    ("when", "share"), [("calibrate", 0.5), ("prune", 0.5), ("prune", 1.0), ("export", 0.0)]
)
def test_a_full_disk_ends_in_one_sentence_and_the_command_goes_on_later(
    when: Stage, share: float, disk: Path, tmp_path: Path
) -> None:
    model, out = tmp_path / "model", disk / "out"
    write_random_llava(model, kv_heads=4)

    def progress(stage: Stage, done: float) -> None:
        if stage == when and done >= share and not (disk / "ballast").exists():
            fill(disk)

    with pytest.raises(DiskFullError) as caught:
        compress(model, parse_recipe(RECIPE), out, progress=progress)

    assert "free some space and give the same command again" in str(caught.value)
    assert str(caught.value).count(". ") == 0, "one sentence"
    assert sorted(path.name for path in disk.iterdir()) == [".out.work", "ballast"]

    (disk / "ballast").unlink()
    stages: list[Stage] = []
    compress(model, parse_recipe(RECIPE), out, progress=lambda stage, _: stages.append(stage))
    verify(out)
    assert [path.name for path in disk.iterdir()] == ["out"]
    if when != "calibrate":
        assert "calibrate" not in stages  # what was done was kept


def test_a_disk_that_is_full_from_the_start_is_told(disk: Path, tmp_path: Path) -> None:
    write_random_llava(tmp_path / "model", kv_heads=4)
    fill(disk)
    with pytest.raises(DiskFullError):
        compress(tmp_path / "model", parse_recipe(RECIPE), disk / "out")
    assert not (disk / "out").exists()


@contextmanager
def small_files() -> Iterator[None]:
    """No file of this process grows beyond 100 kB; Python ignores the signal, the write fails."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A compression that nothing came between; its original is beside it as `model`."""
    place = tmp_path_factory.mktemp("straight")
    write_random_llava(place / "model", kv_heads=4)
    compress(place / "model", parse_recipe(RECIPE), place / "out")
    return place / "out"


@pytest.mark.parametrize("when", ["calibrate", "prune"])
def test_a_file_that_may_not_grow_is_a_full_disk(
    when: Stage, straight: Path, tmp_path: Path
) -> None:
    model, out, limit = straight.parent / "model", tmp_path / "made" / "out", small_files()

    def progress(stage: Stage, done: float) -> None:
        if stage == when and done >= 1.0:
            limit.__enter__()

    try:
        with pytest.raises(DiskFullError) as caught:
            compress(model, parse_recipe(RECIPE), out, progress=progress)
    finally:
        limit.__exit__(None, None, None)
    assert "free some space and give the same command again" in str(caught.value)
    assert [path.name for path in out.parent.iterdir()] == [".out.work"]

    stages: list[Stage] = []
    compress(model, parse_recipe(RECIPE), out, progress=lambda stage, _: stages.append(stage))
    assert "calibrate" not in stages  # what was done was kept
    assert [path.name for path in out.parent.iterdir()] == ["out"]
    ours, theirs = (
        {p.relative_to(place): sha256_of(p) for p in place.rglob("*") if p.is_file()}
        for place in (out, straight)
    )
    assert ours == theirs


def test_the_command_ends_in_one_line(straight: Path, tmp_path: Path) -> None:
    recipe = "{flops: 0.5, calibration: {samples: 16}, evaluation: {samples: 0}}"
    model, out = straight.parent / "model", tmp_path / "out"
    asked = ["compress", str(model), "--recipe", recipe, "--out", str(out)]
    with small_files():
        ended = CliRunner().invoke(app, asked)
    assert ended.exit_code == 1
    assert ended.stderr.splitlines()[-1].startswith("infoprune: The disk is full while writing")
    assert not out.exists()
