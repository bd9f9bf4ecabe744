"""The whole compression, on a random LLaVA of 0.7 M parameters."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoProcessor

from compressor import load
from compressor.checkpoint import MANIFEST, sha256_of, verify
from compressor.errors import BudgetError, Cancelled, CheckpointError, CompressorError
from compressor.evaluate.datasets import examples
from compressor.inspect import inspect
from compressor.pipeline import Stage, compress, dry_run
from compressor.plan import Plan
from compressor.recipe import parse_recipe
from compressor.report import Report
from compressor.report.write import data_of, page_of
from tests.support.random_vlm import write_random_llava

BUNDLED = Path(__file__).parents[2] / "models" / "shapes-llava"
RECIPE = {
    "flops": 0.5,
    "calibration": {"samples": 16},
    "evaluation": {"samples": 8},
    "round_to": 4,
}


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models") / "original"
    write_random_llava(path, kv_heads=4)
    return path


@pytest.fixture(scope="module")
def compressed(original: Path) -> tuple[Path, Report]:
    target = original.parent / "half"
    return target, compress(original, parse_recipe(RECIPE), target)


def read_plan(directory: Path) -> Plan:
    return Plan.model_validate_json((directory / "plan.json").read_text())


def test_the_budget_is_met_within_two_percent(compressed: tuple[Path, Report]) -> None:
    _, report = compressed
    ratio = report.compressed.flops.prompt / report.original.flops.prompt
    assert 0.49 <= ratio <= 0.5


def test_both_towers_shrink_and_layers_differ(compressed: tuple[Path, Report]) -> None:
    plan = read_plan(compressed[0])
    heads = {tower: [len(s.heads) for s in shapes] for tower, shapes in plan.towers.items()}
    assert min(heads["vision"]) < 8
    assert len(set(heads["language"])) > 1
    ffns = [s for shapes in plan.towers.values() for s in shapes]
    widths = [s.ffn_width for s in ffns if s.ffn_width is not None]
    ranks = [rank for s in ffns for rank in s.ranks.values() if rank is not None]
    assert widths + ranks
    assert all(size % 4 == 0 for size in widths + ranks)
    assert all(len(s.neurons) == (s.ffn_width or 0) for s in ffns)


def test_heads_go_by_whole_kv_groups(compressed: tuple[Path, Report]) -> None:
    for shape in read_plan(compressed[0]).towers["language"]:
        assert shape.heads == tuple(2 * group + i for group in shape.kv_heads for i in (0, 1))


def test_the_export_is_whole_and_says_what_it_is(compressed: tuple[Path, Report]) -> None:
    directory, report = compressed
    verify(directory)
    config = json.loads((directory / "config.json").read_text())
    assert config["architectures"] == ["InfoPruneLlavaForConditionalGeneration"]
    assert config["compression"]["plan_sha256"] == read_plan(directory).sha256
    assert inspect(directory).params == report.compressed.params
    assert inspect(directory).flops == report.compressed.flops
    suffixes = {p.suffix for p in directory.rglob("*") if p.is_file()}
    assert suffixes <= {".json", ".safetensors", ".md", ".jinja", ".html"}


def test_the_report_is_in_the_export_and_under_its_manifest(
    compressed: tuple[Path, Report], tmp_path: Path
) -> None:
    directory, report = compressed
    listed = json.loads((directory / MANIFEST).read_text())["files"]
    assert {"report/index.html", "report/data.json", "report.json"} <= listed.keys()
    data = data_of(directory)
    assert data["plan"]["sha256"] == read_plan(directory).sha256
    assert data["compressed"] == report.compressed.to_json()
    assert [tower["tower"] for tower in data["towers"]] == ["vision", "projector", "language"]
    assert len(data["towers"][2]["head_scores"]) == len(read_plan(directory).towers["language"])

    copied = tmp_path / "copied"
    shutil.copytree(directory, copied)
    page_of(copied).write_text("other")
    with pytest.raises(CheckpointError, match=r"report/index\.html .* differs from its manifest"):
        verify(copied)


def test_what_the_run_cost_is_told_and_not_exported(compressed: tuple[Path, Report]) -> None:
    directory, report = compressed
    assert report.spent is not None
    assert list(report.spent.seconds) == [
        "calibrate", "score", "plan", "prune", "evaluate", "export",
    ]  # fmt: skip
    assert report.spent.peak_memory_bytes > 100e6
    for path in directory.rglob("*.json"):
        assert "spent" not in path.read_text()


def test_a_dry_run_plans_as_the_real_one_and_leaves_it_the_scores(
    compressed: tuple[Path, Report], original: Path, tmp_path: Path
) -> None:
    found = dry_run(original, parse_recipe(RECIPE), tmp_path / "out")

    assert found.plan.sha256 == read_plan(compressed[0]).sha256
    assert found.compressed == compressed[1].compressed.flops
    assert [path.name for path in tmp_path.iterdir()] == [".out.work"]
    stages: list[str] = []
    compress(
        original, parse_recipe(RECIPE), tmp_path / "out",
        progress=lambda stage, share: stages.append(stage),
    )  # fmt: skip
    assert "calibrate" not in stages
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_the_tensors_really_shrink(compressed: tuple[Path, Report], original: Path) -> None:
    directory, report = compressed
    model = load(directory)
    assert sum(p.numel() for p in model.parameters()) == report.compressed.params
    sizes = [(path / "model.safetensors").stat().st_size for path in (original, directory)]
    assert sizes[1] / sizes[0] == pytest.approx(
        report.compressed.params / report.original.params, rel=0.02
    )


def test_a_plan_can_be_replayed(
    compressed: tuple[Path, Report], original: Path, tmp_path: Path
) -> None:
    directory, _ = compressed
    again = tmp_path / "again"

    compress(original, parse_recipe(RECIPE), again, plan=read_plan(directory))

    assert read_plan(again).sha256 == read_plan(directory).sha256
    theirs, ours = load(directory).state_dict(), load(again).state_dict()
    assert theirs.keys() == ours.keys()
    assert all(torch.equal(theirs[name], ours[name]) for name in theirs)


@pytest.mark.parametrize("layout", ["adaptive", "uniform"])
def test_learned_gates_settle_the_heads_and_ranks_are_allocated_around_them(
    original: Path, tmp_path: Path, layout: str
) -> None:
    recipe = RECIPE | {"scheme": "trained", "layout": layout, "training": {"steps": 3, "batch": 2}}
    out = tmp_path / "out"

    report = compress(original, parse_recipe(recipe), out)

    plan = read_plan(out)
    assert report.compressed.flops.prompt <= 0.5 * report.original.flops.prompt
    layers = [layer for tower in plan.towers.values() for layer in tower]
    if layout == "adaptive":
        assert any(layer.attention_ranks for layer in layers)
    else:
        assert len({len(layer.kv_heads) for layer in plan.towers["language"]}) == 1
    load(out)
    for found in data_of(out)["towers"]:
        gates = [p for row in found["gates"] for p in row]
        assert len(gates) == len([s for row in found["head_scores"] for s in row])
        assert all(0 < p < 1 for p in gates)
    assert "Learned gates, how likely each is open" in page_of(out).read_text()


def test_the_trained_scheme_reaches_as_far_as_ranks_do(original: Path, tmp_path: Path) -> None:
    """Heads alone leave more than what is asked; ranks of what stays of attention make up for it."""
    asked = {**RECIPE, "flops": 0.15, "evaluation": {"samples": 0}}
    with pytest.raises(BudgetError):
        compress(original, parse_recipe({**asked, "low_rank_attention": False}), tmp_path / "heads")
    trained = {**asked, "scheme": "trained", "training": {"steps": 2, "batch": 2}}
    report = compress(original, parse_recipe(trained), tmp_path / "trained")
    assert report.compressed.flops.prompt <= 0.15 * report.original.flops.prompt


def test_attention_is_cut_by_whole_heads_only_where_the_recipe_says_so(
    original: Path, tmp_path: Path
) -> None:
    target = tmp_path / "heads"
    report = compress(original, parse_recipe({**RECIPE, "low_rank_attention": False}), target)
    layers = [layer for tower in read_plan(target).towers.values() for layer in tower]
    assert not any(layer.attention_ranks for layer in layers)
    assert report.compressed.flops.prompt <= 0.5 * report.original.flops.prompt
    assert report.compressed.kv_values < report.original.kv_values


def test_compensation_brings_a_trained_model_nearer_to_its_original(tmp_path: Path) -> None:
    """A very stiff ridge leaves what is kept as it was: the same cut without compensation."""
    recipe = {"flops": 0.5, "calibration": {"samples": 32}, "evaluation": {"samples": 0}}
    fitted, cut = tmp_path / "fitted", tmp_path / "cut"
    compress(BUNDLED, parse_recipe(recipe), fitted)
    compress(BUNDLED, parse_recipe(recipe | {"ridge": 1e9}), cut, plan=read_plan(fitted))
    wanted, near, far = (_visual_tokens(path) for path in (BUNDLED, fitted, cut))
    assert (near - wanted).square().mean() < 0.5 * (far - wanted).square().mean()


def test_a_compressed_model_is_not_compressed_again(
    compressed: tuple[Path, Report], tmp_path: Path
) -> None:
    with pytest.raises(CheckpointError, match="compressed already"):
        compress(compressed[0], parse_recipe(RECIPE), tmp_path / "out")


@pytest.fixture
def empty(tmp_path: Path) -> Iterator[Path]:
    """A directory in which a failed compression may leave nothing."""
    yield tmp_path
    assert list(tmp_path.iterdir()) == []


def test_a_budget_that_cannot_be_met_says_what_can(original: Path, empty: Path) -> None:
    with pytest.raises(BudgetError, match=r"smallest leave 0\.\d+ of its flops"):
        compress(original, parse_recipe(RECIPE | {"flops": 0.01}), empty / "new" / "place" / "out")


def test_the_smallest_budget_that_is_told_can_be_met(original: Path, tmp_path: Path) -> None:
    with pytest.raises(BudgetError) as told:
        dry_run(original, parse_recipe(RECIPE | {"flops": 0.01}), tmp_path / "out")
    (least,) = re.findall(r"leave (0\.\d+) of", str(told.value))
    share = float(least) + 0.001  # it is rounded
    found = dry_run(original, parse_recipe(RECIPE | {"flops": share}), tmp_path / "out")
    assert found.compressed.prompt / found.original.prompt == pytest.approx(share, abs=0.002)


def test_what_is_there_is_not_replaced_unasked_and_an_original_never(
    original: Path, compressed: tuple[Path, Report], tmp_path: Path
) -> None:
    before = {p.name: sha256_of(p) for p in original.iterdir() if p.is_file()}
    for there, overwrite, words in (
        (compressed[0], False, "exists; choose another place"),
        (original, False, "exists; choose another place"),
        (original, True, "not a model that infoprune compressed"),
        (tmp_path, True, "not a model that infoprune compressed"),
    ):
        with pytest.raises(CheckpointError, match=words):
            compress(original, parse_recipe(RECIPE), there, overwrite=overwrite)
    assert {p.name: sha256_of(p) for p in original.iterdir() if p.is_file()} == before

    target = tmp_path / "half"
    shutil.copytree(compressed[0], target)
    (target / "notes.txt").write_text("of the first")
    compress(original, parse_recipe(RECIPE), target, overwrite=True)
    assert not (target / "notes.txt").exists()
    assert sha256_of(target / "plan.json") == sha256_of(compressed[0] / "plan.json")


def test_a_job_can_be_stopped_at_every_stage(original: Path, empty: Path) -> None:
    for last in ("calibrate", "prune"):

        def stop(stage: Stage, share: float, last: str = last) -> None:
            del share
            if stage == last:
                raise Cancelled

        with pytest.raises(Cancelled):
            compress(original, parse_recipe(RECIPE), empty / "out", progress=stop)


def test_a_truncated_original_fails_in_one_sentence(original: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    write_random_llava(broken, kv_heads=4)
    weights = broken / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(CompressorError, match="truncated"):
        compress(broken, parse_recipe(RECIPE), tmp_path / "out")
    assert not (tmp_path / "out").exists()


@torch.inference_mode()
def _visual_tokens(directory: Path) -> torch.Tensor:
    """What the language model sees of held-out images, (8, 64, width)."""
    model: Any = load(directory)
    processor = AutoProcessor.from_pretrained(directory)
    images = [example.image() for example in examples("easy-vqa", "test", samples=8)]
    pixels = processor.image_processor(images=images, return_tensors="pt")["pixel_values"]
    features = model.get_image_features(pixel_values=pixels)
    return torch.stack(list(getattr(features, "pooler_output", features)))
