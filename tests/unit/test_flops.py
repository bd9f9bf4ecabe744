from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from compressor import load
from compressor.checkpoint import Compression, read_config
from compressor.families import TowerSpec, family_of
from compressor.flops import RequestFlops, kv_values, matrix_flops, request_flops
from models.training.architecture import IMAGE_TOKENS
from tests.support.random_vlm import Kind, Towers, uneven_shapes, uneven_towers, write_random_vlm

TEXT_TOKENS = 12
PATCHES = 64


@pytest.fixture
def kind() -> Kind:
    """Of the model, where a test is not parametrised by it."""
    return "clip-llama"


@pytest.fixture
def model_dir(kind: Kind, towers: Towers | None, kv_heads: int | None, tmp_path: Path) -> Path:
    """A random model, of what the test is parametrised by."""
    write_random_vlm(tmp_path / "model", kind, towers, kv_heads=kv_heads)
    return tmp_path / "model"


def shapes_of(config: dict[str, Any]) -> Towers:
    compression = Compression.of_config(config)
    return compression.towers if compression else {}


def counted(directory: Path, patches: int = PATCHES) -> RequestFlops:
    """By our formulas."""
    config = read_config(directory)
    family = family_of(config)
    fixed = family.fixed_flops(config, patches)
    specs = family.towers(config)
    return request_flops(specs, shapes_of(config), fixed, text_tokens=TEXT_TOKENS)


def eager(directory: Path) -> Any:
    """The model with attention as plain products, which the profiler sees."""
    model: Any = load(directory)
    model.set_attn_implementation("eager")
    return model


def prompt(model: Any, grid: tuple[int, int] = (8, 8)) -> dict[str, Tensor]:
    """One image, of `grid` patches where its size is free, and text."""
    config, patches = model.config, grid[0] * grid[1]
    more = {"pixel_values": torch.zeros(1, 3, 64, 64)}
    visual, image = IMAGE_TOKENS, config.image_token_id
    if config.model_type == "qwen2_5_vl":
        visual = patches // 4
        more = {"pixel_values": torch.zeros(patches, 3 * 2 * 8 * 8)}
        more["image_grid_thw"] = torch.tensor([[1, *grid]])
    ids = torch.tensor([[image] * visual + [7] * TEXT_TOKENS])
    if config.model_type == "qwen2_5_vl":
        more["mm_token_type_ids"] = (ids == image).long()
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids), **more}


def profile(model: Any, **inputs: Any) -> FlopCounterMode:
    with FlopCounterMode(display=False) as profiler, torch.inference_mode():
        model(**inputs, logits_to_keep=1)
    return profiler


def profiled_in(profiler: FlopCounterMode, part: str, *within: str) -> int:
    """FLOPs of the modules whose name ends so and holds the rest."""
    return sum(
        count
        for name, counts in profiler.get_flop_counts().items()
        if name.endswith(part) and all(each in name for each in within)
        for count in counts.values()
    )


def by_tower(profiler: FlopCounterMode, specs: Sequence[TowerSpec]) -> dict[str, float]:
    """FLOPs of each tower with what belongs to it, by the convention."""
    vision, projector, language = specs
    roots = {spec.name: ".".join(spec.layers.split(".")[:2]) for spec in specs}
    found: dict[str, float] = {n: profiled_in(profiler, root) for n, root in roots.items()}
    found["projector"] = profiled_in(profiler, projector.layers)
    if projector.layers.startswith(roots["vision"]):  # Qwen's merger is a part of its tower
        found["vision"] -= found["projector"]
    # transformers runs the tower's last layer and its pooling too, whose outputs LLaVA does not use.
    found["vision"] -= sum(profiled_in(profiler, path) for path in vision.idle)
    found["language"] += profiled_in(profiler, "lm_head")
    found["language"] -= profiled_in(profiler, "rotary_emb")  # left out by the convention
    for spec in (vision, language):
        # An input factor that several matrices share is computed by transformers for each of them.
        for block, share in (("self_attn", 2 / 3), ("mlp", 1 / 2)):
            factors = profiled_in(profiler, "proj.shared_factor", block, roots[spec.name])
            found[spec.name] -= share * factors
    return found


@pytest.mark.parametrize(
    ("kind", "towers", "kv_heads"),
    [
        ("clip-llama", None, 8),
        ("clip-llama", None, 2),
        ("clip-llama", uneven_towers(), 8),
        ("clip-llama", uneven_towers(2), 2),
        ("siglip-qwen2", None, None),
        ("siglip-qwen2", uneven_shapes("siglip-qwen2"), None),
        ("qwen2.5-vl", None, None),
        ("qwen2.5-vl", uneven_shapes("qwen2.5-vl"), None),
    ],
)
def test_the_count_is_that_of_a_profiler(model_dir: Path) -> None:
    """Of each tower for a prompt, and of one token that is decoded behind it."""
    config = read_config(model_dir)
    specs, model, found = family_of(config).towers(config), eager(model_dir), counted(model_dir)
    inputs = prompt(model)
    towers = by_tower(profile(model, **inputs), specs)
    assert (found.vision, found.projector, found.prefill) == (
        towers["vision"], towers["projector"], towers["language"],
    )  # fmt: skip

    with torch.inference_mode():
        cache = model(**inputs, use_cache=True).past_key_values
    seen = found.visual_tokens + found.text_tokens
    assert cache.get_seq_length() == seen
    token = torch.tensor([[7]])
    decoded = by_tower(profile(model, input_ids=token, past_key_values=cache), specs)
    assert decoded == {"vision": 0, "projector": 0, "language": found.decode_token}


@pytest.mark.parametrize(("kind", "towers", "kv_heads"), [("qwen2.5-vl", None, None)])
def test_a_window_at_the_edge_is_counted_as_a_whole_one(model_dir: Path) -> None:
    """The count knows how many patches an image has, not their grid, so it is an upper bound."""
    config = read_config(model_dir)
    vision, *_ = specs = family_of(config).towers(config)
    model, found = eager(model_dir), counted(model_dir, patches=6 * 8)
    towers = by_tower(profile(model, **prompt(model, (6, 8))), specs)
    assert (found.projector, found.prefill) == (towers["projector"], towers["language"])
    # 6 x 8 patches are two windows of 4 x 4, and two of 2 x 4 that have 8 keys, not 16.
    windowed = sum(window is not None for window in vision.windows)
    assert found.vision - towers["vision"] == windowed * 16 * 4.0 * 8 * vision.width


@pytest.mark.parametrize(("towers", "kv_heads"), [(None, 2), (uneven_towers(2), 2)])
def test_the_kv_cache_is_counted_as_transformers_fills_it(model_dir: Path) -> None:
    config = read_config(model_dir)
    shapes = shapes_of(config)
    model: Any = load(model_dir)
    with torch.inference_mode():
        cache = model(input_ids=torch.arange(1, 8)[None], use_cache=True).past_key_values

    held = sum(layer.keys.numel() + layer.values.numel() for layer in cache.layers)
    assert kv_values(family_of(config).towers(config), shapes) == held / 7


def test_a_factored_matrix_pays_off_only_below_break_even() -> None:
    rows, columns = 96, 160
    break_even = rows * columns / (rows + columns)
    for rank in range(1, 96):
        is_cheaper = matrix_flops((rows, columns), rank) < matrix_flops((rows, columns), None)
        assert is_cheaper == (rank < break_even)
