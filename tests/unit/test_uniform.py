"""The uniform layout loads in stock transformers, without anything of this project."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from compressor import load
from compressor.checkpoint import read_config
from compressor.pipeline import compress
from compressor.recipe import parse_recipe
from tests.support.random_vlm import KINDS, Kind, write_random_vlm

RECIPE = {
    "flops": 0.75,
    "layout": "uniform",
    "round_to": 4,
    "calibration": {"samples": 16},
    "evaluation": {"samples": 0},
}
# Isolated (-I), from another directory, and with this project's packages made impossible to import.
STOCK = """
import json, sys
for name in ("compressor", "service"):
    sys.modules[name] = None
import torch
from safetensors.torch import save_file
from transformers import AutoModelForImageTextToText
model, report = AutoModelForImageTextToText.from_pretrained(
    sys.argv[1], dtype=torch.float32, output_loading_info=True
)
print(json.dumps({k: sorted(map(str, report[k])) for k in ("missing_keys", "mismatched_keys")}))
save_file({k: v.contiguous().clone() for k, v in model.state_dict().items()}, sys.argv[2])
"""


@pytest.mark.parametrize("kind", KINDS)
def test_stock_transformers_loads_the_same_weights(kind: Kind, tmp_path: Path) -> None:
    from safetensors.torch import load_file

    original, out, seen = tmp_path / "model", tmp_path / "uniform", tmp_path / "seen.safetensors"
    write_random_vlm(original, kind)
    report = compress(original, parse_recipe(RECIPE), out)

    done = subprocess.run(
        [sys.executable, "-I", "-c", STOCK, str(out), str(seen)],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip

    assert done.returncode == 0, done.stderr[-2000:]
    assert json.loads(done.stdout.splitlines()[-1]) == {"missing_keys": [], "mismatched_keys": []}
    assert report.compressed.params < report.original.params
    assert read_config(out)["architectures"] == read_config(original)["architectures"]
    ours, stock = load(out, dtype=torch.float32).state_dict(), load_file(seen)
    assert all(torch.equal(ours[name], stock[name]) for name in ours if "lm_head" not in name)
