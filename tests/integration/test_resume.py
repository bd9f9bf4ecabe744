"""A compression that is killed goes on where it was, and ends in the same bits."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

from compressor.checkpoint import sha256_of
from tests.support.random_vlm import write_random_llava

ROOT = Path(__file__).parents[2]
RECIPE = {
    "flops": 0.5,
    "calibration": {"samples": 16},
    "evaluation": {"samples": 8},
    "round_to": 4,
}
# Every boundary of two stages, and inside calibrating, pruning and evaluating.
KILLS = (
    ("calibrate", "0"), ("calibrate", "0.5"), ("score", "0"), ("plan", "0"), ("prune", "0.01"),
    ("prune", "0.6"), ("evaluate", "0"), ("evaluate", "0.5"), ("export", "0"),
)  # fmt: skip


def compress(model: Path, out: Path, *kill: str) -> int:
    """Run in a process of its own; returns its exit status."""
    command = [sys.executable, "-m", "tests.support.killed_compression", str(model)]
    done = subprocess.run(
        [*command, json.dumps(RECIPE), str(out), *kill],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode in (0, -signal.SIGKILL), done.stderr[-3000:]
    return done.returncode


def digests(directory: Path) -> dict[str, str]:
    return {
        str(p.relative_to(directory)): sha256_of(p) for p in directory.rglob("*") if p.is_file()
    }


def test_kills_at_every_stage_change_no_bit_of_the_result(tmp_path: Path) -> None:
    model, straight, killed = tmp_path / "model", tmp_path / "straight", tmp_path / "killed"
    write_random_llava(model, kv_heads=4)
    assert compress(model, straight) == 0
    first_layer = tmp_path / ".killed.work" / "prune" / "vision-0.safetensors"
    written = 0

    for kill in KILLS:
        assert compress(model, killed, *kill) == -signal.SIGKILL, kill
        assert not killed.exists()
        if kill[0] == "prune" and not written:
            written = first_layer.stat().st_mtime_ns
    assert first_layer.stat().st_mtime_ns == written  # later runs did not compute it again
    assert compress(model, killed) == 0

    assert digests(killed) == digests(straight)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["killed", "model", "straight"]


def test_another_recipe_does_not_go_on_with_the_pieces_of_the_first(tmp_path: Path) -> None:
    model, out = tmp_path / "model", tmp_path / "out"
    write_random_llava(model, kv_heads=4)
    assert compress(model, out, "evaluate", "0") == -signal.SIGKILL
    work = tmp_path / ".out.work"
    before = json.loads((work / "fingerprint.json").read_text())

    command = [sys.executable, "-m", "tests.support.killed_compression", str(model)]
    changed = json.dumps(RECIPE | {"flops": 0.6})
    subprocess.run([*command, changed, str(out), "score", "0"], cwd=ROOT, check=False)

    assert json.loads((work / "fingerprint.json").read_text()) != before
    assert not (work / "candidate.json").exists()
