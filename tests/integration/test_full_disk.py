"""A disk that is really full: one sentence, nothing half-written, and the same command goes on."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from compressor.checkpoint import verify
from compressor.errors import DiskFullError
from compressor.job import Stage
from compressor.pipeline import compress
from compressor.recipe import parse_recipe
from tests.support.random_vlm import write_random_llava

RECIPE = {
    "flops": 0.5,
    "calibration": {"samples": 16},
    "evaluation": {"samples": 4},
    "round_to": 4,
}


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 MB in memory."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(place)]
    try:
        done = subprocess.run(mount, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("there is no mount program")
    if done.returncode:
        pytest.skip(f"no file system can be mounted here: {done.stderr.strip()}")
    try:
        yield place
    finally:
        # Lazily: the failed compression's traceback may still hold a mapped file.
        subprocess.run(["umount", "-l", str(place)], check=True)


def fill(disk: Path) -> Path:
    """Write until there is no room for a byte; removing the file makes room again."""
    ballast = disk / "ballast"
    with ballast.open("ab", buffering=0) as file:
        for size in (1 << 20, 4096, 1):
            try:
                while True:
                    file.write(bytes(size))
            except OSError:
                continue
    return ballast


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
