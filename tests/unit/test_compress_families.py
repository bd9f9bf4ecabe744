"""The whole compression of every family, by each scope, and of the targets that need no measuring."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from compressor import load
from compressor.checkpoint import Tower, read_config
from compressor.inspect import inspect
from compressor.pipeline import compress
from compressor.plan import Plan
from compressor.recipe import parse_recipe
from compressor.report import Report
from tests.support.random_vlm import KINDS, Kind, write_random_vlm

RECIPE = {
    "flops": 0.6,
    "calibration": {"samples": 16},
    "evaluation": {"samples": 0},
    "round_to": 4,
}
TOWERS: tuple[Tower, ...] = ("vision", "projector", "language")


def compressed(
    directory: Path, kind: Kind, *, kv_heads: int | None = None, **recipe: object
) -> tuple[Path, Path, Report]:
    """A random original of that kind, its compressed model, and the report."""
    original, out = directory / "original", directory / "out"
    write_random_vlm(original, kind, kv_heads=kv_heads)
    asked = {key: value for key, value in {**RECIPE, **recipe}.items() if value is not None}
    return original, out, compress(original, parse_recipe(asked), out)


def plan_of(directory: Path) -> Plan:
    return Plan.model_validate_json((directory / "plan.json").read_text())


@pytest.mark.parametrize("kind", KINDS)
def test_every_family_is_compressed_unevenly_to_its_budget(kind: Kind, tmp_path: Path) -> None:
    _, out, report = compressed(tmp_path, kind)

    assert 0.55 <= report.compressed.flops.prompt / report.original.flops.prompt <= 0.6
    assert report.compressed.flops.vision < report.original.flops.vision
    assert report.compressed.flops.prefill < report.original.flops.prefill
    assert inspect(out).params == report.compressed.params
    model = load(out, dtype=torch.float32)
    assert sum(p.numel() for p in model.parameters()) == report.compressed.params
    assert all(bool(p.isfinite().all()) for p in model.parameters())
    assert read_config(out)["architectures"][0].startswith("InfoPrune")


@pytest.mark.parametrize("tower", TOWERS)
@pytest.mark.parametrize("kind", ["clip-llama", "qwen2.5-vl"])
def test_a_tower_out_of_scope_keeps_its_weights(kind: Kind, tower: Tower, tmp_path: Path) -> None:
    scope = {name: name != tower for name in TOWERS}
    original, out, report = compressed(tmp_path, kind, flops=0.95, scope=scope)

    plan = plan_of(out)
    assert set(plan.towers) == {name for name in TOWERS if name != tower}
    assert report.compressed.flops.prompt <= 0.95 * report.original.flops.prompt
    part = {"vision": "vision_tower.", "projector": "projector.", "language": "language_model."}
    if kind == "qwen2.5-vl":
        part |= {"vision": "visual.blocks.", "projector": "visual.merger."}
    before, after = (load(path).state_dict() for path in (original, out))
    own = [name for name in before if part[tower] in name]
    assert own
    assert all(torch.equal(before[name], after[name]) for name in own)


def test_a_share_of_the_parameters_is_met(tmp_path: Path) -> None:
    _, out, report = compressed(tmp_path, "clip-mistral", flops=None, params=0.7)
    assert 0.65 <= report.compressed.params / report.original.params <= 0.7
    assert inspect(out).params == report.compressed.params


def test_the_one_group_of_multi_query_attention_stays_whole(tmp_path: Path) -> None:
    _, out, report = compressed(
        tmp_path, "clip-llama", kv_heads=1, low_rank_attention=False, flops=0.7
    )
    language = plan_of(out).towers["language"]
    assert all(layer.kv_heads == (0,) and len(layer.heads) == 8 for layer in language)
    assert report.compressed.flops.prompt <= 0.7 * report.original.flops.prompt
    load(out)
