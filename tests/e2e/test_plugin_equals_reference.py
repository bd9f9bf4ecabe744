"""vLLM with the plugin gives the tokens and log-probabilities of the transformers model."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoProcessor

from compressor import load
from compressor.evaluate.datasets import Example
from compressor.evaluate.runner import render
from models.training import shapes
from tests.support.random_vlm import Kind, Towers, uneven_shapes, write_random_vlm

# Both compute in float32, but sum in another order (paged attention, merged projections). Measured:
# 8e-5 at the most over the cases below; a wrong head or factor gives differences above 0.1.
TOLERANCE = 1e-3
MAX_TOKENS = 8
ROOT = Path(__file__).parents[2]
QUIET = {
    "HF_HUB_OFFLINE": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "DO_NOT_TRACK": "1",
    "VLLM_CPU_KVCACHE_SPACE": "1",
}


@dataclass(frozen=True)
class Case:
    kind: Kind
    towers: Towers | None
    kv_heads: int | None = None


CASES = {
    "CLIP and Llama": Case("clip-llama", uneven_shapes("clip-llama")),
    "CLIP and Mistral, grouped queries, tower untouched": Case(
        "clip-mistral", uneven_shapes("clip-mistral", without=("vision", "projector"))
    ),
    "SigLIP and Qwen2": Case("siglip-qwen2", uneven_shapes("siglip-qwen2")),
    "Qwen2.5-VL": Case("qwen2.5-vl", uneven_shapes("qwen2.5-vl")),
    "untouched original": Case("clip-llama", None),
}


@dataclass(frozen=True)
class Asked:
    model: Path
    requests: list[dict[str, str]]
    answers: list[dict[str, Any]]


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Asked]:
    """Every case's answers; two engines at a time, as most of a start is one core's work."""

    def ask(name: str) -> Asked:
        case, directory = CASES[name], tmp_path_factory.mktemp("case")
        model = directory / "model"
        write_random_vlm(model, case.kind, case.towers, kv_heads=case.kv_heads, seed=1)
        processor = AutoProcessor.from_pretrained(model)
        requests = _requests(directory, processor)
        never = _visual_tokens(processor)
        return Asked(model, requests, _ask_vllm(model, requests, never, directory))

    with ThreadPoolExecutor(2) as pool:
        return dict(zip(CASES, pool.map(ask, CASES), strict=True))


@pytest.mark.parametrize("name", CASES)
def test_vllm_gives_the_tokens_and_logprobs_of_transformers(
    name: str, asked: dict[str, Asked]
) -> None:
    found = asked[name]
    reference = load(found.model, dtype=torch.float32)
    processor = AutoProcessor.from_pretrained(found.model)
    assert len(found.answers) == len(found.requests)
    differences = [
        _largest_difference(reference, processor, request, answer)
        for request, answer in zip(found.requests, found.answers, strict=True)
    ]
    largest = max(differences)
    assert largest < TOLERANCE, f"log-probabilities differ by up to {largest:.2e}"
    # The images must matter, or the tower's weights would not be tested.
    assert len({tuple(answer["token_ids"]) for answer in found.answers}) > 1


def _requests(directory: Path, processor: Any) -> list[dict[str, str]]:
    """One question about different pictures, each in a file, in the model's own words."""
    asked = Example("", "what shape is present?", ("",), "exact", Image.Image)
    prompt = render(processor, asked)
    rng = np.random.default_rng(5)
    found = []
    for index, color in enumerate(("red", "black", "yellow")):
        path = directory / f"{index}.png"
        shapes.draw(shapes.Scene(shapes.SHAPES[index], color), rng).save(path)
        found.append({"prompt": prompt, "image": str(path)})
    return found


def _visual_tokens(processor: Any) -> list[int]:
    """Tokens that stand for images: in an answer they would ask the reference for more images."""
    names = [getattr(processor, name, None) for name in ("image_token", "video_token")]
    return [processor.tokenizer.convert_tokens_to_ids(name) for name in names if name]


def _ask_vllm(
    model: Path, requests: list[dict[str, str]], never: list[int], directory: Path
) -> list[dict[str, Any]]:
    """Greedy answers from an engine in a process of its own, without the tokens `never`."""
    job, answers = directory / "job.json", directory / "answers.json"
    content: dict[str, Any] = {"model": str(model), "dtype": "float32", "max_tokens": MAX_TOKENS}
    content["never"] = never
    job.write_text(json.dumps({**content, "requests": requests}))
    command = [sys.executable, "-m", "tests.support.vllm_greedy", str(job), str(answers)]
    done = subprocess.run(
        command, cwd=ROOT, env={**os.environ, **QUIET}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, (done.stdout + done.stderr)[-6000:]
    parsed: list[dict[str, Any]] = json.loads(answers.read_text())
    return parsed


@torch.inference_mode()
def _largest_difference(
    reference: Any, processor: Any, request: dict[str, str], answer: dict[str, Any]
) -> float:
    """The largest difference of a log-probability, after asserting that all tokens are equal.

    The reference sees vLLM's tokens and must itself have chosen each: one pass instead of a loop.
    """
    with Image.open(request["image"]) as image:
        inputs = processor(
            images=image, text=request["prompt"], add_special_tokens=False, return_tensors="pt"
        )
    asked = inputs["input_ids"]  # (1, P)
    assert asked[0].tolist() == answer["prompt_ids"]
    chosen = torch.tensor(answer["token_ids"])  # (N,)
    assert len(chosen) == MAX_TOKENS
    rest = {k: v for k, v in inputs.items() if k not in ("input_ids", "attention_mask")}
    if (kinds := rest.get("mm_token_type_ids")) is not None:  # Qwen's: which tokens are visual
        rest["mm_token_type_ids"] = torch.cat([kinds, torch.zeros_like(chosen)[None]], dim=1)
    logits = reference(input_ids=torch.cat([asked, chosen[None]], dim=1), **rest).logits[0]
    logprobs = logits[asked.shape[1] - 1 : -1].log_softmax(dim=-1)  # (N, V)
    allowed = logprobs.clone()
    allowed[:, _visual_tokens(processor)] = -torch.inf
    assert allowed.argmax(dim=-1).tolist() == chosen.tolist()
    return max(
        abs(float(expected[int(token)]) - value)
        for expected, step in zip(logprobs, answer["logprobs"], strict=True)
        for token, value in step.items()
    )
