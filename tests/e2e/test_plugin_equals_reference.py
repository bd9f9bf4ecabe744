"""vLLM with the plugin gives the tokens and log-probabilities of the transformers model."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoProcessor

from compressor import load
from compressor.pipeline import compress
from compressor.recipe import parse_recipe
from tests.support.engine import ask_vllm, largest_difference, questions, visual_tokens
from tests.support.random_vlm import Kind, Towers, uneven_shapes, write_random_vlm

# Both compute in float32, but sum in another order (paged attention, merged projections). Measured:
# 8e-5 at the most over the cases below; a wrong head or factor gives differences above 0.1.
TOLERANCE = 1e-3


RECIPE = {"flops": 0.6, "round_to": 4, "calibration": {"samples": 16}, "evaluation": {"samples": 0}}


@dataclass(frozen=True)
class Case:
    kind: Kind
    towers: Towers | None = None
    """Shapes of which random weights are written; none: an original."""
    compressed: bool = False
    """Whether the original is then compressed, by the pipeline."""


CASES = {
    "CLIP and Llama": Case("clip-llama", uneven_shapes("clip-llama")),
    "CLIP and Mistral, grouped queries, tower untouched": Case(
        "clip-mistral", uneven_shapes("clip-mistral", without=("vision", "projector"))
    ),
    "SigLIP and Qwen2": Case("siglip-qwen2", uneven_shapes("siglip-qwen2")),
    "Qwen2.5-VL": Case("qwen2.5-vl", uneven_shapes("qwen2.5-vl")),
    "untouched original": Case("clip-llama"),
    "compressed: CLIP and Mistral": Case("clip-mistral", compressed=True),
    "compressed: SigLIP and Qwen2": Case("siglip-qwen2", compressed=True),
    "compressed: Qwen2.5-VL": Case("qwen2.5-vl", compressed=True),
}


@dataclass(frozen=True)
class Asked:
    model: Path
    requests: list[dict[str, str]]
    answers: list[dict[str, Any]]


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Asked]:
    """Every case's answers; two engines at a time, as most of a start is one core's work."""

    models = {name: made(case, tmp_path_factory.mktemp("case")) for name, case in CASES.items()}

    def ask(name: str) -> Asked:
        model = models[name]
        processor = AutoProcessor.from_pretrained(model)
        requests = questions(model.parent, processor)
        answers = ask_vllm(model, requests, visual_tokens(processor), model.parent)
        return Asked(model, requests, answers)

    with ThreadPoolExecutor(2) as pool:
        return dict(zip(CASES, pool.map(ask, CASES), strict=True))


def made(case: Case, directory: Path) -> Path:
    """The directory of the case's model, in a directory of its own."""
    model = directory / "model"
    write_random_vlm(model, case.kind, case.towers, seed=1)
    if not case.compressed:
        return model
    compress(model, parse_recipe(RECIPE), directory / "compressed")
    return directory / "compressed"


@pytest.mark.parametrize("name", CASES)
def test_vllm_gives_the_tokens_and_logprobs_of_transformers(
    name: str, asked: dict[str, Asked]
) -> None:
    found = asked[name]
    reference = load(found.model, dtype=torch.float32)
    processor = AutoProcessor.from_pretrained(found.model)
    assert len(found.answers) == len(found.requests)
    differences = [
        largest_difference(reference, processor, request, answer)
        for request, answer in zip(found.requests, found.answers, strict=True)
    ]
    largest = max(differences)
    assert largest < TOLERANCE, f"log-probabilities differ by up to {largest:.2e}"
    # The images must matter, or the tower's weights would not be tested.
    assert len({tuple(answer["token_ids"]) for answer in found.answers}) > 1
