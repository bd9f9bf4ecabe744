"""Factored matrices in transformers' modules: which tensors the file has, and what is shared."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from compressor import load
from compressor.checkpoint import LayerShape
from compressor.loading import distinct, linear_at, read_tensors
from tests.support.random_vlm import HEADS, write_random_llava

LAYERS = "model.language_model.layers"


def shape(attention_ranks: dict[str, int], ranks: dict[str, int | None]) -> LayerShape:
    heads = tuple(range(HEADS))
    return LayerShape(heads=heads, kv_heads=heads, ranks=ranks, attention_ranks=attention_ranks)


SHARED = shape({"qkv_proj": 9, "o_proj": 7}, {"gate_up_proj": 5, "down_proj": None})
APART = shape({"q_proj": 9, "k_proj": 7}, {"gate_proj": 5, "up_proj": 3, "down_proj": None})


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A first layer whose matrices share input factors, a second as format 1 had them, dense ones."""
    path = tmp_path_factory.mktemp("loading") / "model"
    write_random_llava(path, {"language": (SHARED, APART)})
    return path


def stored(directory: Path, layer: int) -> set[str]:
    start = f"language_model.model.layers.{layer}."
    names = read_tensors(directory)
    return {name.removeprefix(start) for name in names if name.startswith(start)}


def test_a_shared_input_factor_is_in_the_file_once(directory: Path) -> None:
    names = {n for n in stored(directory, 0) if "factor" in n}
    assert names == {
        *(f"self_attn.{n}_factor.weight" for n in ("qkv_in", "q_out", "k_out", "v_out")),
        *(f"self_attn.o_{n}_factor.weight" for n in ("in", "out")),
        *(f"mlp.{n}_factor.weight" for n in ("gate_up_in", "gate_out", "up_out")),
    }


def test_matrices_with_factors_of_their_own_are_read_as_before(directory: Path) -> None:
    names = {n for n in stored(directory, 1) if "factor" in n}
    matrices = {"self_attn.q", "self_attn.k", "mlp.gate", "mlp.up"}
    assert names == {f"{m}_{n}_factor.weight" for m in matrices for n in ("in", "out")}
    block: Any = load(directory).get_submodule(f"{LAYERS}.1")
    assert block.self_attn.q_proj.in_factor.weight.shape[0] == 9
    assert block.mlp.up_proj.in_factor.weight.shape[0] == 3
    assert linear_at(block, "self_attn.v_proj").weight.dim() == 2


def test_what_is_shared_is_one_parameter_and_stays_so_when_it_is_trained(directory: Path) -> None:
    model: Any = load(directory, dtype=torch.float32)
    attention = model.get_submodule(f"{LAYERS}.0.self_attn")
    factors = [m.shared_factor for m in (attention.q_proj, attention.k_proj, attention.v_proj)]
    assert factors[0] is factors[1] is factors[2]
    names = [name for name, _ in model.named_parameters() if "shared_factor" in name]
    assert len(names) == 2, "one of q, k and v, one of gate and up"

    model.requires_grad_(True)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    before = factors[0].weight.detach().clone()
    model(input_ids=torch.arange(1, 8)[None]).logits.square().mean().backward()
    optimizer.step()
    assert not torch.equal(before, factors[0].weight)
    assert torch.equal(attention.q_proj.shared_factor.weight, factors[2].weight)


def test_repeats_of_a_shared_factor_are_left_out_and_nothing_else_is(directory: Path) -> None:
    names = list(load(directory).state_dict())
    kept = list(distinct(names))
    assert set(names) - set(kept) == {
        *(f"{LAYERS}.0.self_attn.{m}_proj.shared_factor.weight" for m in ("k", "v")),
        f"{LAYERS}.0.mlp.up_proj.shared_factor.weight",
    }
    assert list(distinct(kept)) == kept
