"""The compression job, read from top to bottom: calibrate, score, plan, prune, evaluate, export.

Every stage leaves its results in a work directory beside the target (`compressor/work.py`). The same
command after a crash goes on with what is there, and ends in the same bits.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from compressor import inputs
from compressor.allocation import allocate, allocate_exact
from compressor.calibrate import LayerStatistics, calibrate_layer
from compressor.checkpoint import Tower, read_config, sha256_of, verify
from compressor.costs import Cost, FlopsCost, ParamsCost, shapes_cost
from compressor.errors import CheckpointError, CompressorError, DiskFullError, RecipeError
from compressor.export import Candidate, publish, write_candidate
from compressor.families import Family, TowerSpec, family_of
from compressor.flops import RequestFlops, request_flops
from compressor.inspect import count_parameters
from compressor.loading import linear_at, load
from compressor.measure import evaluate_pair
from compressor.plan import Plan, PlannedLayer, make_plan
from compressor.prune import prune_layer, run_both
from compressor.recipe import Recipe
from compressor.report import Report, Side
from compressor.scoring import LayerScores, score_layer
from compressor.streams import LazyModel, Stream
from compressor.work import Work

Stage = Literal["calibrate", "score", "plan", "prune", "evaluate", "export"]
STAGES: tuple[Stage, ...] = ("calibrate", "score", "plan", "prune", "evaluate", "export")
Progress = Callable[[Stage, float], None]
"""Hears the stage and the share of it that is done; may raise `Cancelled` to stop the job."""


def compute_device() -> torch.device:
    """Where layers are computed: the GPU if there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


@dataclass(frozen=True)
class Job:
    """One compression: what it starts from, and where its pieces are kept."""

    source: Path
    recipe: Recipe
    work: Work
    progress: Progress
    config: dict[str, Any]
    family: Family
    device: torch.device = field(default_factory=compute_device)

    @cached_property
    def specs(self) -> tuple[TowerSpec, ...]:
        """Every tower of the model."""
        return self.family.towers(self.config)

    @cached_property
    def processor(self) -> Any:
        """The model's own processor."""
        from transformers import AutoProcessor

        return AutoProcessor.from_pretrained(self.source)

    @cached_property
    def request(self) -> tuple[int, int]:
        """(text tokens, image patches) that FLOPs are counted for."""
        return inputs.reference_request(self.processor, self.family)

    @cached_property
    def model(self) -> LazyModel:
        """The original, its blocks in the memory-mapped file."""
        return LazyModel(load(self.source), self.specs, self.device)

    @cached_property
    def data(self) -> tuple[list[dict[str, Tensor]], list[Tensor]]:
        """Calibration inputs by batch, and the language model's token weights."""
        chosen = inputs.mixture(
            self.recipe.calibration.datasets,
            samples=self.recipe.calibration.samples,
            seed=self.recipe.seed,
        )
        batches = inputs.prepare(self.processor, chosen)
        lengths = inputs.answer_lengths(self.processor, chosen)
        token = inputs.image_token_id(self.processor)
        return batches, inputs.token_weights(batches, lengths, token)

    def stream(self, name: str, spec: TowerSpec) -> Stream:
        """A stream of this job: `calibrate`, `original` or `compressed`, in one tower."""
        return Stream(self.work.directory / "streams" / name / spec.name, self.device)


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
    out = Path(out)
    job = open_job(Path(source), recipe, out, plan=plan, progress=progress)
    try:
        return _run(job, out, plan)
    except DiskFullError:
        raise
    except CompressorError:
        # The same command would end in the same sentence: there is nothing to go on with.
        job.work.remove()
        raise


def _run(job: Job, out: Path, plan: Plan | None) -> Report:
    made = plan or decide(job, score(job))
    job.progress("plan", 1.0)
    candidate = prune(job, made)
    report = evaluate(job, made, candidate)
    job.progress("export", 0.0)
    publish(candidate, job.source, out, made, report)
    job.work.remove()
    job.progress("export", 1.0)
    return report


def open_job(
    source: Path,
    recipe: Recipe,
    out: Path,
    *,
    plan: Plan | None = None,
    progress: Progress = lambda stage, share: None,
) -> Job:
    """Check what a compression starts from, and open its work directory.

    Raises:
        CompressorError: it is not a whole, uncompressed model of a known family.
    """
    config, family = open_original(source)
    weights = {p.name: sha256_of(p) for p in sorted(source.glob("*.safetensors"))}
    fingerprint = {
        "recipe": recipe.model_dump(mode="json"),
        "weights": weights,
        "plan": plan.sha256 if plan else None,
    }
    torch.manual_seed(recipe.seed)
    return Job(source, recipe, Work.beside(out, fingerprint), progress, config, family)


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


def calibrate(job: Job) -> None:
    """Collect every layer's statistics on the calibration data, one layer in memory at a time."""
    job.progress("calibrate", 0.0)
    total, done = sum(spec.used_layers for spec in job.specs), 0
    upstream: list[tuple[TowerSpec, Stream]] = []
    for spec in job.specs:
        measured = spec.name in job.recipe.towers
        first = next(
            (i for i in range(spec.used_layers) if not job.work.has(_passed(spec, i))),
            spec.used_layers,
        )
        stream = _enter(job, "calibrate", spec, upstream, first)
        for index in range(first, spec.used_layers):
            block = job.model.block(spec, index)
            found = calibrate_layer(block, spec, stream, measure=measured)
            if found is not None:
                job.work.save_tensors(_statistics(spec, index), found.tensors())
            job.work.save_json(_passed(spec, index), True)
            stream.advance()
            job.progress("calibrate", (done + index + 1) / total)
        done += spec.used_layers
        upstream.append((spec, stream))


def _enter(
    job: Job, name: str, spec: TowerSpec, upstream: list[tuple[TowerSpec, Stream]], depth: int
) -> Stream:
    """A stream at a tower's layer `depth`; from 0 on its activations are computed."""
    batches, weights = job.data
    stream = job.stream(name, spec)
    stream.depth = depth
    job.model.enter(spec, batches, upstream, stream, fresh=depth == 0)
    if spec.name == "language":
        stream.weights = weights
    return stream


def score(job: Job) -> dict[Tower, list[LayerScores]]:
    """Score every layer's heads, matrices and neurons."""
    wanted = [
        (spec, i)
        for spec in job.specs
        if spec.name in job.recipe.towers
        for i in range(spec.used_layers)
    ]
    if not all(job.work.has(_scores(spec, i)) for spec, i in wanted):
        calibrate(job)
    scores: dict[Tower, list[LayerScores]] = {}
    for done, (spec, index) in enumerate(wanted, start=1):
        if not job.work.has(_scores(spec, index)):
            statistics = LayerStatistics.of_tensors(
                {
                    k: v.to(job.device)
                    for k, v in job.work.load_tensors(_statistics(spec, index)).items()
                }
            )
            block = job.model.block(spec, index)
            paths = (*((spec.attention.o,) if spec.attention else ()), *spec.matrices)
            matrices = {path: linear_at(block, path).weight.data for path in paths}
            found = score_layer(matrices, statistics, spec)
            job.work.save_json(_scores(spec, index), found.to_json())
        content = job.work.load_json(_scores(spec, index))
        scores.setdefault(spec.name, []).append(LayerScores.of_json(content))
        job.progress("score", done / len(wanted))
    return scores


def decide(
    job: Job, scores: Mapping[Tower, list[LayerScores]], *, share: float | None = None
) -> Plan:
    """Allocate the recipe's budget over all towers in scope.

    Args:
        job: the compression.
        scores: of the towers in scope.
        share: of FLOPs, instead of the recipe's target.
    """
    target, value = job.recipe.target if share is None else ("flops", share)
    if target not in ("flops", "params"):
        raise RecipeError(f"The target {target} is not decided by one plan.")
    return make_plan(
        job.specs,
        scores,
        cost_model(job, target),
        architecture=job.family.architecture,
        target="params" if target == "params" else "flops",
        share=value,
        request=job.request,
        round_to=job.recipe.round_to,
        layout=job.recipe.layout,
        allocator=allocate if job.recipe.allocation == "greedy" else allocate_exact,
    )


def cost_model(job: Job, target: str) -> Cost:
    """The unit of a budget for this model."""
    flops = FlopsCost(job.family.fixed_flops(job.config, job.request[1]), job.request[0])
    if target != "params":
        return flops
    total = sum(p.numel() for p in job.model.model.parameters())
    return ParamsCost(total - shapes_cost(job.specs, {}, ParamsCost(0.0)))


def prune(job: Job, plan: Plan) -> Candidate:
    """The compressed model's weights: heads cut, FFNs factored or narrowed, what is left fitted."""
    total, done = sum(spec.used_layers for spec in job.specs), 0
    upstream: tuple[list[tuple[TowerSpec, Stream]], ...] = ([], [])
    for spec in job.specs:
        layers = plan.towers.get(spec.name)
        first = next(
            (i for i in range(spec.used_layers) if not job.work.has(_pruned(spec, i))),
            spec.used_layers,
        )
        streams = [
            _enter(job, name, spec, behind, first)
            for name, behind in zip(("original", "compressed"), upstream, strict=True)
        ]
        for index in range(first, spec.used_layers):
            original = job.model.block(spec, index)
            planned = layers[index] if layers else PlannedLayer(**spec.dense_layer().model_dump())
            block = prune_layer(
                original, spec, planned, streams[0], streams[1], ridge=job.recipe.ridge
            )
            run_both(original, block, streams[0], streams[1])
            tensors = {k: v.cpu() for k, v in block.state_dict().items()} if layers else {}
            job.work.save_tensors(_pruned(spec, index), tensors)
            for stream in streams:
                stream.advance()
            job.progress("prune", (done + index + 1) / total)
        done += spec.used_layers
        for behind, stream in zip(upstream, streams, strict=True):
            behind.append((spec, stream))
    return write_candidate(job.work, job.model.model, job.specs, job.family, job.source, plan)


def evaluate(job: Job, plan: Plan, candidate: Candidate) -> Report:
    """Measure both models, from their files, on the same test questions."""
    accuracy = evaluate_pair(
        job.source, candidate.directory, job.processor, job.recipe.evaluation, job.recipe.seed,
        job.work, advance=lambda share: job.progress("evaluate", share),
    )  # fmt: skip
    sides = [
        Side(
            sum(count_parameters(p) for p in directory.glob("*.safetensors")),
            count_flops(job, towers),
            measured,
        )
        for directory, towers, measured in (
            (job.source, {}, accuracy.original),
            (candidate.directory, plan.towers, accuracy.compressed),
        )
    ]
    return Report(job.source.name, sides[0], sides[1], accuracy.difference, job.recipe.seed)


def count_flops(job: Job, towers: Mapping[Tower, tuple[PlannedLayer, ...]]) -> RequestFlops:
    """FLOPs of a request to the original (no towers) or to the planned model."""
    text_tokens, patches = job.request
    fixed = job.family.fixed_flops(job.config, patches)
    return request_flops(job.specs, towers, fixed, text_tokens=text_tokens)


def _passed(spec: TowerSpec, index: int) -> str:
    return f"calibrate/{spec.name}-{index}.json"


def _statistics(spec: TowerSpec, index: int) -> str:
    return f"calibrate/{spec.name}-{index}.safetensors"


def _scores(spec: TowerSpec, index: int) -> str:
    return f"score/{spec.name}-{index}.json"


def _pruned(spec: TowerSpec, index: int) -> str:
    return f"prune/{spec.name}-{index}.safetensors"
