from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from compressor import load
from compressor.checkpoint import Compression, read_config
from compressor.families import family_of
from compressor.flops import kv_values, matrix_flops, request_flops
from models.training.architecture import IMAGE_TOKENS
from tests.support.random_vlm import Towers, uneven_towers, write_random_llava

TEXT_TOKENS = 12


@pytest.fixture
def model_dir(towers: Towers | None, kv_heads: int, tmp_path: Path) -> Path:
    """A random LLaVA, of what the test is parametrised by."""
    return write_random_llava(tmp_path / "model", towers, kv_heads=kv_heads)


def shapes_of(config: dict[str, Any]) -> Towers:
    compression = Compression.of_config(config)
    return compression.towers if compression else {}


@pytest.mark.parametrize(
    ("towers", "kv_heads"), [(None, 8), (None, 2), (uneven_towers(), 8), (uneven_towers(2), 2)]
)
def test_the_count_is_that_of_a_profiler(model_dir: Path) -> None:
    config = read_config(model_dir)
    family = family_of(config)
    counted = request_flops(
        family.towers(config),
        shapes_of(config),
        family.fixed_flops(config, 0),
        text_tokens=TEXT_TOKENS,
    )

    model: Any = load(model_dir)
    model.config._attn_implementation = "eager"
    for part in (model.model.vision_tower, model.model.language_model):
        part.config._attn_implementation = "eager"
    image = config["image_token_index"]
    ids = torch.tensor([[image] * IMAGE_TOKENS + [7] * TEXT_TOKENS])
    with FlopCounterMode(display=False) as profiler, torch.inference_mode():
        model(input_ids=ids, pixel_values=torch.zeros(1, 3, 64, 64), logits_to_keep=1)

    # transformers runs the tower's last layer too, whose output LLaVA does not use.
    unused = sum(
        count
        for name, counts in profiler.get_flop_counts().items()
        if name.endswith(f"encoder.layers.{family.towers(config)[0].used_layers}")
        for count in counts.values()
    )
    rotary = profiled_in(profiler, "rotary_emb")
    # An input factor that several matrices share is computed by transformers for each of them.
    inputs = profiled_in(profiler, "proj.shared_factor", "self_attn") * 2 / 3
    repeated = inputs + profiled_in(profiler, "proj.shared_factor", "mlp") / 2
    assert counted.prompt == profiler.get_total_flops() - unused - rotary - repeated


@pytest.mark.parametrize(("towers", "kv_heads"), [(None, 2), (uneven_towers(2), 2)])
def test_the_kv_cache_is_counted_as_transformers_fills_it(model_dir: Path) -> None:
    config = read_config(model_dir)
    shapes = shapes_of(config)
    model: Any = load(model_dir)
    with torch.inference_mode():
        cache = model(input_ids=torch.arange(1, 8)[None], use_cache=True).past_key_values

    held = sum(layer.keys.numel() + layer.values.numel() for layer in cache.layers)
    assert kv_values(family_of(config).towers(config), shapes) == held / 7


def profiled_in(profiler: FlopCounterMode, part: str, within: str = "") -> int:
    """FLOPs of the modules whose name ends so (rotary tables are left out by the convention)."""
    return sum(
        count
        for name, counts in profiler.get_flop_counts().items()
        if name.endswith(part) and within in name
        for count in counts.values()
    )


def test_a_factored_matrix_pays_off_only_below_break_even() -> None:
    rows, columns = 96, 160
    break_even = rows * columns / (rows + columns)
    for rank in range(1, 96):
        is_cheaper = matrix_flops((rows, columns), rank) < matrix_flops((rows, columns), None)
        assert is_cheaper == (rank < break_even)
