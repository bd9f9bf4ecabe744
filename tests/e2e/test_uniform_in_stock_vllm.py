"""A uniform checkpoint is served by stock vLLM, in an environment that lacks this project."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForImageTextToText, AutoProcessor

from compressor.checkpoint import read_config
from compressor.pipeline import compress
from compressor.recipe import parse_recipe
from tests.support.bare_environment import OURS, BareEnvironment, bare_environment
from tests.support.engine import ASK, ask_vllm, largest_difference, questions, visual_tokens
from tests.support.random_vlm import KINDS, Kind, write_random_vlm

RECIPE = {
    "flops": 0.75,
    "layout": "uniform",
    "round_to": 16,
    "calibration": {"samples": 16},
    "evaluation": {"samples": 0},
}
TOLERANCE = 1e-3  # as in test_plugin_equals_reference
LOOK = """
import importlib.metadata, importlib.util, json, sys
print(json.dumps({
    "found": [name for name in sys.argv[1:] if importlib.util.find_spec(name)],
    "plugins": [e.name for e in importlib.metadata.entry_points(group="vllm.general_plugins")],
    "projects": [d.name for d in importlib.metadata.distributions() if d.name == "infoprune"],
    "vllm": importlib.util.find_spec("vllm") is not None,
}))
"""


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> BareEnvironment:
    return bare_environment(tmp_path_factory.mktemp("bare") / "venv")


def test_the_environment_lacks_this_project_and_has_vllm(
    bare: BareEnvironment, tmp_path: Path
) -> None:
    done = subprocess.run(
        [str(bare.python), "-c", LOOK, *OURS],
        cwd=tmp_path, env=bare.variables, capture_output=True, text=True, check=True,
    )  # fmt: skip
    seen = json.loads(done.stdout)
    assert "infoprune" not in seen.pop("plugins")
    assert seen == {"found": [], "projects": [], "vllm": True}


@pytest.mark.parametrize("kind", KINDS)
def test_stock_vllm_gives_the_tokens_of_stock_transformers(
    kind: Kind, bare: BareEnvironment, tmp_path: Path
) -> None:
    original, model = tmp_path / "original", tmp_path / "uniform"
    write_random_vlm(original, kind, seed=1)
    report = compress(original, parse_recipe(RECIPE), model)
    assert report.compressed.params < report.original.params
    assert read_config(model)["architectures"] == read_config(original)["architectures"]
    processor = AutoProcessor.from_pretrained(model)
    requests = questions(tmp_path, processor)
    script = tmp_path / "elsewhere" / ASK.name  # alone: nothing of the checkout is beside it
    script.parent.mkdir()
    shutil.copyfile(ASK, script)

    answers = ask_vllm(
        model, requests, visual_tokens(processor), tmp_path,
        command=(str(bare.python), str(script)), environment=bare.variables, cwd=script.parent,
    )  # fmt: skip

    reference: Any = AutoModelForImageTextToText.from_pretrained(model, dtype=torch.float32)
    assert type(reference).__module__.startswith("transformers.")
    pairs = zip(requests, answers, strict=True)
    largest = max(largest_difference(reference, processor, *pair) for pair in pairs)
    assert largest < TOLERANCE, f"log-probabilities differ by up to {largest:.2e}"
    # The images must matter, or the tower's weights would not be tested.
    assert len({tuple(answer["token_ids"]) for answer in answers}) > 1
