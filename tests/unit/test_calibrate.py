"""Models and data of which no scores can be made: one sentence each, and nothing is left."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from compressor.checkpoint import MANIFEST
from compressor.errors import CalibrationError, CompressorError, DatasetError
from compressor.pipeline import compress
from compressor.recipe import parse_recipe
from tests.support.random_vlm import Kind, write_random_vlm

RECIPE: dict[str, Any] = {
    "flops": 0.5,
    "calibration": {"samples": 16},
    "evaluation": {"samples": 0},
    "round_to": 4,
}


@pytest.fixture
def empty(tmp_path: Path) -> Iterator[Path]:
    """A directory in which a failed compression may leave nothing."""
    place = tmp_path / "place"
    place.mkdir()
    yield place
    assert list(place.iterdir()) == []


def changed(
    directory: Path, change: Callable[[dict[str, torch.Tensor]], None], kind: Kind = "clip-llama"
) -> Path:
    """A random model with other weights, as someone else might have written it."""
    write_random_vlm(directory, kind)
    weights = directory / "model.safetensors"
    tensors = load_file(weights)
    change(tensors)
    save_file(tensors, weights, metadata={"format": "pt"})
    (directory / MANIFEST).unlink()
    return directory


def sentence(model: Path, out: Path, recipe: dict[str, Any]) -> CompressorError:
    with pytest.raises(CompressorError) as caught:
        compress(model, parse_recipe(recipe), out)
    assert str(caught.value).count(". ") == 0, "one sentence"
    return caught.value


@pytest.mark.parametrize(
    ("tensor", "where"),
    [
        (
            "vision_tower.vision_model.encoder.layers.1.mlp.fc1.weight",
            "layer 1 of the vision tower",
        ),
        ("language_model.model.layers.0.self_attn.v_proj.weight", "layer 0 of the language tower"),
    ],
)
def test_weights_that_are_not_numbers_are_told_with_their_layer(
    tensor: str, where: str, tmp_path: Path, empty: Path
) -> None:
    def spoil(tensors: dict[str, torch.Tensor]) -> None:
        tensors[tensor][3, 3] = torch.nan

    error = sentence(changed(tmp_path / "model", spoil), empty / "out", RECIPE)

    assert isinstance(error, CalibrationError)
    assert f"Activations at {where} are not finite" in str(error)


def test_activations_that_do_not_vary_are_told(tmp_path: Path, empty: Path) -> None:
    """A tower that is blind and does not know where it looks: all positions are one."""

    def blind(tensors: dict[str, torch.Tensor]) -> None:
        for name, tensor in tensors.items():
            if "patch_embedding.weight" in name or "position_embedding" in name:
                tensor.zero_()

    model = changed(tmp_path / "model", blind, "siglip-qwen2")
    error = sentence(model, empty / "out", RECIPE)

    assert isinstance(error, CalibrationError)
    assert "layer 0 of the vision tower are the same at every position" in str(error)


def test_too_few_samples_say_how_many_more(tmp_path: Path, empty: Path) -> None:
    write_random_vlm(tmp_path / "model", "clip-llama")
    config = tmp_path / "model" / "config.json"
    # Eight images of 64 patches and a class token: too few for a thousand neurons.
    content = json.loads(config.read_text())
    content["vision_config"]["intermediate_size"] = 1040
    config.write_text(json.dumps(content))
    widened = load_file(tmp_path / "model" / "model.safetensors")
    for name, tensor in widened.items():
        if "vision_tower" in name and ".mlp.fc" in name:
            shape = [1040 if side == 96 else side for side in tensor.shape]
            widened[name] = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    save_file(widened, tmp_path / "model" / "model.safetensors", metadata={"format": "pt"})
    (tmp_path / "model" / MANIFEST).unlink()

    error = sentence(
        tmp_path / "model", empty / "out", RECIPE | {"calibration": {"samples": 8}}
    )  # fmt: skip

    assert isinstance(error, CalibrationError)
    assert "520 positions, too few for a covariance of 1040 activations" in str(error)
    assert "set calibration.samples to 2 times as many" in str(error)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("not json", "Line 1 .* is malformed"),
        ("", "no questions|no training questions|is empty"),
    ],
)
def test_a_calibration_set_of_the_wrong_format_is_named(
    content: str, words: str, tmp_path: Path, empty: Path
) -> None:
    write_random_vlm(tmp_path / "model", "clip-llama")
    data = tmp_path / "data.jsonl"
    data.write_text(content)
    calibration = {"datasets": [str(data)], "samples": 16}

    error = sentence(tmp_path / "model", empty / "out", RECIPE | {"calibration": calibration})

    assert isinstance(error, DatasetError)
    assert re.search(words, str(error)), str(error)
