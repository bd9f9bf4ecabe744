"""A compressed model split over two workers of vLLM, on one node or two, answers as in transformers."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoProcessor

from compressor import load
from compressor.checkpoint import LayerShape
from tests.conftest import FACTOR
from tests.e2e.test_plugin_equals_reference import TOLERANCE
from tests.support import ray_platform
from tests.support.engine import ROOT, ask_vllm, largest_difference, questions, visual_tokens
from tests.support.random_vlm import Kind, Towers, uneven_shapes, write_random_vlm
from tests.support.ray_cluster import ENVIRONMENT, cluster_within

RANKS = 2
WAYS: dict[str, tuple[Kind, dict[str, Any]]] = {
    "LLaVA, tensor parallel": ("clip-llama", {"tensor_parallel_size": RANKS}),
    # Without compiling, vLLM on a CPU skips the warm-up in which a later stage makes its buffers.
    "LLaVA, pipeline parallel": (
        "clip-llama", {"pipeline_parallel_size": RANKS, "enforce_eager": False},
    ),
    "Qwen2.5-VL, tensor parallel": ("qwen2.5-vl", {"tensor_parallel_size": RANKS}),
    "Qwen2.5-VL, tensor parallel but its tower": (
        "qwen2.5-vl", {"tensor_parallel_size": RANKS, "mm_encoder_tp_mode": "data"},
    ),
}  # fmt: skip


@pytest.mark.parametrize("way", WAYS)
def test_two_workers_give_the_tokens_and_logprobs_of_transformers(way: str, tmp_path: Path) -> None:
    environment = {**os.environ, "VLLM_CPU_OMP_THREADS_BIND": one_core_each()}
    compare(way, tmp_path, executor="mp", environment=environment)


@pytest.mark.timeout(900 * FACTOR)  # two nodes of Ray, and an engine with two workers
@pytest.mark.parametrize("way", ["LLaVA, tensor parallel", "LLaVA, pipeline parallel"])
def test_two_nodes_of_a_ray_cluster_give_the_tokens_and_logprobs_of_transformers(
    way: str, on_two_nodes: dict[str, str], tmp_path: Path
) -> None:
    """Each node has one device, so that each gets one of the two workers."""
    compare(way, tmp_path, executor="ray", environment=on_two_nodes)


@pytest.fixture(scope="module")
def on_two_nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The environment of an engine whose workers a Ray cluster of two nodes on this machine places."""
    pytest.importorskip("ray", reason="Ray is not installed; the extra `ray` brings it")
    plugin, place = tmp_path_factory.mktemp("platform"), tmp_path_factory.mktemp("ray")
    ray_platform.install(plugin)
    found = {"PYTHONPATH": f"{plugin}{os.pathsep}{ROOT}", "VLLM_HOST_IP": "127.0.0.1"}
    with cluster_within(place, "--devices", env=found) as cluster:
        yield {**os.environ, **ENVIRONMENT, **found, "RAY_ADDRESS": cluster["address"]}


def compare(way: str, directory: Path, *, executor: str, environment: Mapping[str, str]) -> None:
    """Assert that the engine, split this way, answers as the transformers model does."""
    kind, options = WAYS[way]
    model = directory / "model"
    shapes = uneven_shapes(kind)
    if "tensor" in way:
        shapes = splittable(shapes, vision_heads=way == "Qwen2.5-VL, tensor parallel")
    write_random_vlm(model, kind, shapes, seed=1)
    processor = AutoProcessor.from_pretrained(model)
    requests = questions(directory, processor)
    answers = ask_vllm(
        model, requests, visual_tokens(processor), directory, environment=environment,
        options={"distributed_executor_backend": executor, **options},
    )  # fmt: skip
    reference = load(model, dtype=torch.float32)
    differences = [
        largest_difference(reference, processor, request, answer)
        for request, answer in zip(requests, answers, strict=True)
    ]
    assert max(differences) < TOLERANCE, f"log-probabilities differ by up to {max(differences):.2e}"
    assert len({tuple(answer["token_ids"]) for answer in answers}) > 1


def splittable(towers: Towers, *, vision_heads: bool) -> Towers:
    """The same with a language model whose heads and neurons two ranks can share.

    The tower stays uneven, its heads perhaps not: what it cannot share out every rank computes.
    """
    language = [
        even_heads(shape).model_copy(update={"ffn_width": even_neurons(shape)})
        for shape in towers["language"]
    ]
    vision = [even_heads(shape) for shape in towers["vision"]] if vision_heads else towers["vision"]
    return {**towers, "language": tuple(language), "vision": tuple(vision)}


def even_heads(shape: LayerShape) -> LayerShape:
    group = len(shape.heads) // len(shape.kv_heads)
    kept = max(RANKS, len(shape.kv_heads) // RANKS * RANKS)
    fewer = {"heads": tuple(range(kept * group)), "kv_heads": tuple(range(kept))}
    return shape.model_copy(update=fewer)


def even_neurons(shape: LayerShape) -> int | None:
    return shape.ffn_width and shape.ffn_width // RANKS * RANKS


def one_core_each() -> str:
    """vLLM's binding of its ranks to the cores that this process may use."""
    cores = sorted(os.sched_getaffinity(0))
    return "|".join(str(cores[rank % len(cores)]) for rank in range(RANKS))
