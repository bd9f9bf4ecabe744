"""One position with activations a thousand times larger than the rest does not decide what may go."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from transformers import AutoProcessor

from compressor.checkpoint import MANIFEST
from compressor.evaluate.datasets import examples
from compressor.heal import relative_distance
from compressor.job import open_job
from compressor.massive import MOST, MassiveLimit, massive_weights
from compressor.pipeline import score
from compressor.prompts import render
from compressor.recipe import parse_recipe
from compressor.scoring import LayerScores
from tests.support.random_vlm import write_random_vlm

RECIPE = {"flops": 0.5, "calibration": {"samples": 16}, "evaluation": {"samples": 0}}


@given(st.lists(st.floats(0, 1e12), min_size=1), st.floats(1e-6, 1e6))
def test_no_position_weighs_more_than_the_limit(energies: list[float], usual: float) -> None:
    found = torch.tensor(energies, dtype=torch.float64)
    weights = massive_weights(found, usual)
    assert bool((weights * found <= MOST * usual * (1 + 1e-9)).all())
    assert bool((weights[found <= MOST * usual] == 1).all())


def test_what_is_not_finite_stays_for_the_checks_to_find() -> None:
    found = massive_weights(torch.tensor([torch.nan, torch.inf, 1e9, 1.0]), 1.0)
    assert found[[0, 1, 3]].tolist() == [1.0, 1.0, 1.0]
    assert float(found[2]) < 1e-6


def test_text_on_a_picture_that_is_nearly_all_background_is_not_massive() -> None:
    stream = 1e-4 * torch.randn(1000, 8, generator=torch.Generator().manual_seed(0))
    stream[::10] += torch.randn(100, 8, generator=torch.Generator().manual_seed(1))
    assert torch.equal(MassiveLimit()(stream, torch.ones(1000)), torch.ones(1000))


def test_a_stream_without_massive_positions_keeps_its_weights() -> None:
    stream = torch.randn(4, 50, 16, generator=torch.Generator().manual_seed(0))
    weights = torch.rand(200, generator=torch.Generator().manual_seed(1))
    assert torch.equal(MassiveLimit()(stream, weights), weights)


def test_where_nearly_all_positions_are_empty_all_count() -> None:
    stream = torch.zeros(100, 4)
    stream[0] = 5
    assert torch.equal(MassiveLimit()(stream, torch.ones(100)), torch.ones(100))


def test_what_is_usual_is_read_off_the_first_batch_that_counts() -> None:
    """Padding counts for nothing: it has weight 0."""
    limit = MassiveLimit()
    stream = torch.randn(60, 4, generator=torch.Generator().manual_seed(0))
    stream[20:] = 1e6
    weights = (torch.arange(60) < 20).float()
    assert torch.equal(limit(stream, weights), weights)
    assert 0 < float(limit(torch.full((1, 4), 1e3), torch.ones(1))) < 1e-3


def test_a_recovery_hears_the_rest_beside_a_massive_position() -> None:
    wanted = torch.ones(1, 40, 4)
    wanted[0, 0] = 1000.0
    hidden, counted = wanted.clone(), torch.ones(1, 40, dtype=torch.bool)
    hidden[0, 1:] = 0  # everything but the massive position is lost
    assert float(relative_distance(hidden, wanted, counted)) == pytest.approx(39 / (39 + MOST))


def test_losses_beside_a_massive_first_token_are_those_without_it(tmp_path: Path) -> None:
    """Without the limit they are hundreds of times smaller, and the tower would be cut to nothing."""
    plain, massive = (_losses(tmp_path, name, value) for name, value in (("a", None), ("b", 3e4)))
    for index, (without, beside) in enumerate(zip(plain, massive, strict=True)):
        for of in (_attention, _width):
            ratio = of(beside) / of(without)
            assert 0.1 < ratio < 10, f"layer {index}: {ratio}"


def _losses(place: Path, name: str, value: float | None) -> list[LayerScores]:
    """Of the language model, whose first token gets one activation of that size."""
    model = place / name
    write_random_vlm(model, "clip-llama")
    if value is not None:
        weights = model / "model.safetensors"
        tensors = load_file(weights)
        tensors["language_model.model.embed_tokens.weight"][_first_token(model), 3] = value
        save_file(tensors, weights, metadata={"format": "pt"})
        (model / MANIFEST).unlink()
    job = open_job(model, parse_recipe(RECIPE), place / f"{name}-work")
    return score(job)["language"]


def _first_token(model: Path) -> int:
    processor = AutoProcessor.from_pretrained(model)
    prompt = render(processor, examples("easy-vqa", "train", samples=1)[0])
    return int(processor.tokenizer.encode(prompt, add_special_tokens=False)[0])


def _attention(layer: LayerScores) -> float:
    """What it loses with half of its groups gone."""
    return layer.attention_loss[len(layer.order) // 2]


def _width(layer: LayerScores) -> float:
    return layer.width_loss[len(layer.neurons) // 2]
