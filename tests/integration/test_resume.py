"""A compression that is killed goes on where it was, and ends in the same bits."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from compressor.checkpoint import sha256_of
from tests.conftest import FACTOR
from tests.support.random_vlm import write_random_llava

ROOT = Path(__file__).parents[2]
RECIPE = {
    "flops": 0.5,
    "calibration": {"samples": 16},
    "evaluation": {"samples": 8},
    "recovery": {"steps": 4, "samples": 32, "batch": 2},
    "round_to": 4,
}
# Every boundary of two stages, and inside calibrating, pruning, healing, evaluating and exporting.
KILLS = (
    ("calibrate", "0"), ("calibrate", "0.5"), ("score", "0"), ("plan", "0"), ("prune", "0.01"),
    ("prune", "0.6"), ("heal", "0"), ("heal", "0.5"), ("evaluate", "0"), ("evaluate", "0.5"),
    ("export", "0"), ("export", "within"),
)  # fmt: skip

TRAINED = RECIPE | {"scheme": "trained", "training": {"steps": 4, "batch": 2}}
# Within the gates' training, behind it, and within the recovery of what they chose.
TRAINED_KILLS = (("plan", "0.4"), ("plan", "1"), ("heal", "0.5"))


def compress(model: Path, out: Path, *kill: str, recipe: Mapping[str, Any] = RECIPE) -> int:
    """Run in a process of its own; returns its exit status."""
    command = [sys.executable, "-m", "tests.support.killed_compression", str(model)]
    done = subprocess.run(
        [*command, json.dumps(recipe), str(out), *kill],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode in (0, -signal.SIGKILL), done.stderr[-3000:]
    return done.returncode


def digests(directory: Path) -> dict[str, str]:
    return {
        str(p.relative_to(directory)): sha256_of(p) for p in directory.rglob("*") if p.is_file()
    }


@pytest.mark.timeout(900 * FACTOR)  # fifteen processes, one after another
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
    assert compress(model, killed, "export", "behind") == -signal.SIGKILL
    assert killed.exists()
    assert compress(model, killed) == 0

    assert digests(killed) == digests(straight)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["killed", "model", "straight"]


@pytest.mark.timeout(450 * FACTOR)  # five processes
def test_kills_change_no_bit_of_what_trained_gates_chose(tmp_path: Path) -> None:
    model, straight, killed = tmp_path / "model", tmp_path / "straight", tmp_path / "killed"
    write_random_llava(model, kv_heads=4)
    assert compress(model, straight, recipe=TRAINED) == 0
    gates = tmp_path / ".killed.work" / "gates"
    learned: list[int] = []
    for kill in TRAINED_KILLS:
        assert compress(model, killed, *kill, recipe=TRAINED) == -signal.SIGKILL, kill
        learned.append(len(list(gates.glob("*.safetensors"))))
    assert learned == [0, 1, 1]
    assert compress(model, killed, recipe=TRAINED) == 0
    assert digests(killed) == digests(straight)


def test_data_that_changed_is_read_again(tmp_path: Path) -> None:
    model, out, data = tmp_path / "model", tmp_path / "out", tmp_path / "data.jsonl"
    write_random_llava(model, kv_heads=4)
    Image.new("RGB", (64, 64), "red").save(tmp_path / "a.png")
    row = {"image": "a.png", "question": "what color?", "answer": "red"}
    data.write_text(f"{json.dumps(row)}\n" * 16)
    recipe = {**RECIPE, "calibration": {"datasets": [str(data)], "samples": 16}}
    assert compress(model, out, "score", "0", recipe=recipe) == -signal.SIGKILL
    piece = tmp_path / ".out.work" / "calibrate" / "vision-0.json"
    assert piece.exists()

    data.write_text(f"{json.dumps(row | {'answer': 'blue'})}\n" * 16)
    assert compress(model, out, "calibrate", "0", recipe=recipe) == -signal.SIGKILL
    assert not piece.exists()


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
