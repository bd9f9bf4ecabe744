"""Questions about pictures for a model, and vLLM's greedy answers to them, from its own process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from compressor.evaluate.datasets import Example
from compressor.prompts import render
from models.training import shapes

MAX_TOKENS = 8
ROOT = Path(__file__).parents[2]
ASK = Path(__file__).with_name("vllm_greedy.py")
QUIET = {
    "HF_HUB_OFFLINE": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "DO_NOT_TRACK": "1",
    "VLLM_CPU_KVCACHE_SPACE": "1",
    # A busy machine is no bug; the test's own limit stays.
    "VLLM_EXECUTE_MODEL_TIMEOUT_SECONDS": "3000",
    "VLLM_ENGINE_READY_TIMEOUT_S": "3000",
}


def questions(directory: Path, processor: Any) -> list[dict[str, str]]:
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


def visual_tokens(processor: Any) -> list[int]:
    """Tokens that stand for images: in an answer they would ask the reference for more images."""
    names = [getattr(processor, name, None) for name in ("image_token", "video_token")]
    return [processor.tokenizer.convert_tokens_to_ids(name) for name in names if name]


def ask_vllm(
    model: Path,
    requests: list[dict[str, str]],
    never: list[int],
    directory: Path,
    *,
    command: tuple[str, ...] = (sys.executable, "-m", "tests.support.vllm_greedy"),
    environment: Mapping[str, str] = os.environ,
    cwd: Path = ROOT,
    options: Mapping[str, Any] | None = None,
) -> list[dict[str, Any]]:
    """Greedy answers from an engine in a process of its own, without the tokens `never`.

    `options` are further ones of vLLM's `LLM`.
    """
    job, answers = directory / "job.json", directory / "answers.json"
    content: dict[str, Any] = {"model": str(model), "dtype": "float32", "max_tokens": MAX_TOKENS}
    content |= {"never": never, "options": dict(options or {})}
    job.write_text(json.dumps({**content, "requests": requests}))
    done = subprocess.run(
        [*command, str(job), str(answers)],
        cwd=cwd, env={**environment, **QUIET}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, (done.stdout + done.stderr)[-6000:]
    parsed: list[dict[str, Any]] = json.loads(answers.read_text())
    return parsed


def largest_difference(
    reference: Any, processor: Any, request: dict[str, str], answer: dict[str, Any]
) -> float:
    """The largest difference of a log-probability, after asserting that all tokens are equal.

    The reference sees vLLM's tokens and must itself have chosen each: one pass instead of a loop.
    """
    import torch

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
    with torch.inference_mode():
        seen = torch.cat([asked, chosen[None]], dim=1)
        logits = reference(input_ids=seen, **rest).logits[0]
    logprobs = logits[asked.shape[1] - 1 : -1].log_softmax(dim=-1)  # (N, V)
    allowed = logprobs.clone()
    allowed[:, visual_tokens(processor)] = -torch.inf
    assert allowed.argmax(dim=-1).tolist() == chosen.tolist()
    return max(
        abs(float(expected[int(token)]) - value)
        for expected, step in zip(logprobs, answer["logprobs"], strict=True)
        for token, value in step.items()
    )
