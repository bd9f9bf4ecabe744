"""How much of an error in a matrix that reads the stream reaches the block's output, by noise."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from compressor.checkpoint import MANIFEST
from compressor.families import TowerSpec
from compressor.job import open_job, statistics_piece
from compressor.pipeline import calibrate
from compressor.recipe import parse_recipe
from tests.support.random_vlm import write_random_vlm

RECIPE = {"flops": 0.5, "calibration": {"samples": 16}, "evaluation": {"samples": 0}}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("models") / "tiny"
    write_random_vlm(directory, "clip-llama")
    return directory


def transfers(model: Path, out: Path) -> dict[str, tuple[TowerSpec, Tensor]]:
    """Of every layer by its name, in the order of `spec.reading`."""
    job = open_job(model, parse_recipe(RECIPE), out)
    calibrate(job)
    return {
        f"{spec.name} {index}": (
            spec, job.work.load_tensors(statistics_piece(spec, index))["transfer"]
        )
        for spec in job.specs
        for index in range(spec.used_layers)
    }  # fmt: skip


def test_batches_of_one_example_measure_what_one_batch_of_all_does(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A large model is calibrated example by example; one alone would say little of the answers.

    But for the noise, of which each measurement has its own.
    """
    together = transfers(model, tmp_path / "together")
    monkeypatch.setattr("compressor.job._BATCH_ELEMENTS", 1)
    apart = transfers(model, tmp_path / "apart")
    ratios = torch.cat([found / together[name][1] for name, (_, found) in apart.items()])
    assert float(ratios.log().abs().mean()) < 0.12


def test_what_an_output_matrix_multiplies_by_two_arrives_four_times(
    model: Path, tmp_path: Path
) -> None:
    doubled = tmp_path / "doubled"
    write_random_vlm(doubled, "clip-llama")
    weights = doubled / "model.safetensors"
    tensors = load_file(weights)
    path = "language_model.model.layers.1.mlp.down_proj.weight"
    tensors[path] = 2 * tensors[path]
    save_file(tensors, weights, metadata={"format": "pt"})
    (doubled / MANIFEST).unlink()
    spec, before = transfers(model, tmp_path / "before")["language 1"]
    _, after = transfers(doubled, tmp_path / "after")["language 1"]
    for number, path in enumerate(spec.reading):
        if path in spec.ffn_inputs:
            assert float(after[number] / before[number]) == pytest.approx(4, rel=0.02), path
