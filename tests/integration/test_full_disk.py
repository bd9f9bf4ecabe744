"""A disk that is really full: one sentence, nothing half-written, and the same command goes on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from compressor.checkpoint import verify
from compressor.errors import DiskFullError
from compressor.job import Stage
from compressor.pipeline import compress
from compressor.recipe import parse_recipe
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
