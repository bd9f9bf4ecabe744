"""The compression job, read from top to bottom: calibrate, score, plan, prune, evaluate, export."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from compressor.calibrate import LayerStatistics, calibrate_tower
from compressor.checkpoint import Tower, read_config, verify
from compressor.errors import CheckpointError
from compressor.evaluate.datasets import examples
from compressor.evaluate.metrics import Interval, bootstrap
from compressor.evaluate.runner import score_examples
from compressor.export import export
from compressor.families import Family, TowerSpec, family_of
from compressor.flops import RequestFlops, request_flops
from compressor.inspect import mean_text_tokens
from compressor.loading import linear_at, load
from compressor.plan import Plan, make_plan
from compressor.prune import prune_tower
from compressor.recipe import Recipe
from compressor.report import Report, Side
from compressor.scoring import LayerScores, score_layer
from compressor.streams import Stream, enter, prepare, token_weights

log = logging.getLogger(__name__)

Stage = Literal["calibrate", "score", "plan", "prune", "evaluate", "export"]
STAGES: tuple[Stage, ...] = ("calibrate", "score", "plan", "prune", "evaluate", "export")
Progress = Callable[[Stage, float], None]
"""Hears the stage and the share of it that is done; may raise `Cancelled` to stop the job."""


@dataclass(frozen=True)
class Calibrated:
    """The original model with the inputs that define what is information."""

    model: nn.Module
    processor: Any
    family: Family
    config: dict[str, Any]
    specs: tuple[TowerSpec, ...]
    batches: list[dict[str, Tensor]]
    weights: list[Tensor]
    text_tokens: int
    statistics: dict[Tower, list[LayerStatistics]]


def compress(
    source: str | Path,
    recipe: Recipe,
    out: str | Path,
    *,
    plan: Plan | None = None,
    progress: Progress = lambda stage, share: None,
) -> Report:
    """Compress a model directory into a new checkpoint directory.

    Args:
        source: an original Hugging Face model directory.
        recipe: what to compress towards.
        out: where the checkpoint goes; appears only when it is whole.
        plan: replay this plan instead of making one.
        progress: see `Progress`.

    Raises:
        CompressorError: one sentence on what is wrong; nothing is left at `out`.
    """
    source, out = Path(source), Path(out)
    torch.manual_seed(recipe.seed)
    calibrated = calibrate(source, recipe, progress)
    if plan is None:
        plan = decide(calibrated, score(calibrated, progress), recipe)
    progress("plan", 1.0)
    compressed = prune(calibrated, plan, recipe, progress)
    report = evaluate(calibrated, compressed, plan, recipe, source.name, progress)
    progress("export", 0.0)
    export(compressed, calibrated.family, source, out, plan, report)
    progress("export", 1.0)
    return report


def open_original(source: Path) -> tuple[dict[str, Any], Family]:
    """Config and family of a model that can be compressed; cheap, so that it can be asked early.

    Raises:
        CompressorError: it is not a whole, uncompressed model of a known family.
    """
    config = read_config(source)
    family = family_of(config)
    if "compression" in config:
        raise CheckpointError(f"{str(source)!r} is compressed already; compress its original.")
    verify(source)
    return config, family


def calibrate(source: Path, recipe: Recipe, progress: Progress) -> Calibrated:
    """Load the original and collect its statistics on the calibration data."""
    from transformers import AutoProcessor

    progress("calibrate", 0.0)
    config, family = open_original(source)
    model = load(source, dtype=torch.float32)
    processor: Any = AutoProcessor.from_pretrained(source)
    chosen = examples(
        recipe.calibration.dataset, "train", samples=recipe.calibration.samples, seed=recipe.seed
    )
    batches = prepare(processor, chosen)
    lengths = [len(processor.tokenizer.encode(e.answer, add_special_tokens=False)) for e in chosen]
    image_token = processor.tokenizer.convert_tokens_to_ids(processor.image_token)
    weights = token_weights(batches, lengths, image_token)
    specs = family.towers(config)
    statistics: dict[Tower, list[LayerStatistics]] = {}
    for number, spec in enumerate(specs):
        stream = enter(model, spec, batches, weights)
        statistics[spec.name] = calibrate_tower(
            model, spec, stream,
            progress=part_of(progress, "calibrate", number, len(specs)),
        )  # fmt: skip
    tokens = mean_text_tokens(processor, chosen)
    return Calibrated(model, processor, family, config, specs, batches, weights, tokens, statistics)


def score(calibrated: Calibrated, progress: Progress) -> dict[Tower, list[LayerScores]]:
    """Score every layer's heads and FFN matrices."""
    total = sum(spec.used_layers for spec in calibrated.specs)
    done = 0
    scores: dict[Tower, list[LayerScores]] = {}
    for spec in calibrated.specs:
        layers = calibrated.model.get_submodule(spec.layers)
        scores[spec.name] = []
        for block, statistics in zip(
            layers.children(), calibrated.statistics[spec.name], strict=False
        ):
            paths = (spec.o, *spec.ffn_inputs, spec.ffn_output)
            matrices = {path: linear_at(block, path).weight.data for path in paths}
            scores[spec.name].append(score_layer(matrices, statistics, spec))
            done += 1
            progress("score", done / total)
    return scores


def decide(calibrated: Calibrated, scores: dict[Tower, list[LayerScores]], recipe: Recipe) -> Plan:
    """Allocate the recipe's budget over all towers, heads and ranks."""
    return make_plan(
        calibrated.specs,
        scores,
        calibrated.family.fixed_flops(calibrated.config),
        architecture=calibrated.family.architecture,
        flops=recipe.flops,
        text_tokens=calibrated.text_tokens,
        round_to=recipe.round_to,
    )


def prune(calibrated: Calibrated, plan: Plan, recipe: Recipe, progress: Progress) -> nn.Module:
    """A compressed copy of the model: heads cut, FFNs factored, what is left fitted."""
    model = copy.deepcopy(calibrated.model)
    for number, spec in enumerate(calibrated.specs):
        streams: list[Stream] = [
            enter(m, spec, calibrated.batches, calibrated.weights)
            for m in (calibrated.model, model)
        ]
        prune_tower(
            model, spec, plan.towers[spec.name], streams[0], streams[1], ridge=recipe.ridge,
            progress=part_of(progress, "prune", number, len(calibrated.specs)),
        )  # fmt: skip
    return model


def evaluate(
    calibrated: Calibrated,
    compressed: nn.Module,
    plan: Plan,
    recipe: Recipe,
    name: str,
    progress: Progress,
) -> Report:
    """Measure both models on the same test questions."""
    dataset, samples = recipe.evaluation.dataset, recipe.evaluation.samples
    accuracy: list[dict[str, Interval]] = [{}, {}]
    difference: dict[str, Interval] = {}
    if samples:
        asked = examples(dataset, "test", samples=samples, seed=recipe.seed)
        scores = [
            score_examples(
                model, calibrated.processor, asked,
                advance=part_of(progress, "evaluate", n, 2),
            )
            for n, model in enumerate((calibrated.model, compressed))
        ]  # fmt: skip
        accuracy = [{dataset: bootstrap(s, seed=recipe.seed)} for s in scores]
        paired = [b - a for a, b in zip(*scores, strict=True)]
        difference = {dataset: bootstrap(paired, seed=recipe.seed)}
    flops = (count_flops(calibrated, None), count_flops(calibrated, plan))
    sides = [
        Side(sum(p.numel() for p in model.parameters()), count, measured)
        for model, count, measured in zip(
            (calibrated.model, compressed), flops, accuracy, strict=True
        )
    ]
    return Report(name, sides[0], sides[1], difference, recipe.seed)


def part_of(progress: Progress, stage: Stage, index: int, count: int) -> Callable[[float], None]:
    """Progress of one of `count` equal parts of a stage."""
    return lambda share: progress(stage, (index + share) / count)


def count_flops(calibrated: Calibrated, plan: Plan | None) -> RequestFlops:
    """FLOPs of a request to the original (no plan) or to the planned model."""
    return request_flops(
        calibrated.specs,
        plan.towers if plan else {},
        calibrated.family.fixed_flops(calibrated.config),
        text_tokens=calibrated.text_tokens,
    )
