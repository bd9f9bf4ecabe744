"""The target `max_accuracy_drop` through the whole compression, on a small random LLaVA."""

from __future__ import annotations

from pathlib import Path

import pytest

from compressor.checkpoint import sha256_of
from compressor.pipeline import Stage, compress
from compressor.plan import Plan
from compressor.recipe import parse_recipe
from compressor.report.write import data_of
from compressor.search import TRIES
from tests.support.random_vlm import write_random_llava

# Random weights answer nothing right, so no plan loses anything: the smallest that there is is found.
RECIPE = {
    "max_accuracy_drop": 0.1,
    "round_to": 4,
    "calibration": {"samples": 16},
    "evaluation": {"datasets": ["easy-vqa"], "samples": 0, "validation_samples": 50},
}


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_random_llava(tmp_path_factory.mktemp("models") / "original", kv_heads=4)


def test_the_smallest_plan_that_holds_is_found_told_and_published(
    original: Path, tmp_path: Path
) -> None:
    seen: list[tuple[Stage, float]] = []

    report = compress(
        original, parse_recipe(RECIPE), tmp_path / "found",
        progress=lambda stage, share: seen.append((stage, share)),
    )  # fmt: skip

    tried = data_of(tmp_path / "found")["tried"]
    assert len(tried) == TRIES
    smallest = min(each["share"] for each in tried if each["accepted"])
    for each in tried:
        assert each["accepted"] == (each["difference"] is not None), "only budgets fail here"
        assert each["accepted"] == (each["share"] >= smallest)
    assert report.compressed.flops.prompt <= smallest * report.original.flops.prompt
    planning = [share for stage, share in seen if stage == "plan"]
    assert planning == sorted(planning)

    plain = {k: v for k, v in RECIPE.items() if k != "max_accuracy_drop"} | {"flops": smallest}
    compress(original, parse_recipe(plain), tmp_path / "plain")
    plans, weights = (
        [read(tmp_path / name) for name in ("found", "plain")] for read in (plan_of, weights_of)
    )
    assert plans[0] == plans[1]
    assert weights[0] == weights[1]


def test_a_search_that_is_stopped_does_not_try_again_what_it_tried(
    original: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"

    def stop_in_the_third_try(stage: Stage, share: float) -> None:
        if stage == "plan" and share > 2 / TRIES:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        compress(original, parse_recipe(RECIPE), out, progress=stop_in_the_third_try)
    first = next((tmp_path / ".out.work").glob("try-0.5/prune/*.safetensors"))
    written = first.stat().st_mtime_ns

    def stop_at_the_export(stage: Stage, share: float) -> None:
        if stage == "export":
            raise KeyboardInterrupt

    recipe = parse_recipe(RECIPE)
    with pytest.raises(KeyboardInterrupt):
        compress(original, recipe, out, progress=stop_at_the_export)
    assert first.stat().st_mtime_ns == written
    compress(original, recipe, out)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def plan_of(directory: Path) -> str:
    return Plan.model_validate_json((directory / "plan.json").read_text()).sha256


def weights_of(directory: Path) -> str:
    return sha256_of(directory / "model.safetensors")
