"""What one compression starts from, and where its pieces are kept."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from compressor import inputs
from compressor.checkpoint import (
    MANIFEST,
    WEIGHTS,
    read_config,
    sha256_of,
    verify,
)
from compressor.errors import CheckpointError
from compressor.evaluate.datasets import state_of
from compressor.families import Family, TowerSpec, family_of
from compressor.flops import positions_of
from compressor.kept import KeptBatches
from compressor.latency.table import LatencyTable
from compressor.leftovers import work_directory
from compressor.loading import load
from compressor.plan import Plan
from compressor.processor import cpu_flags, multiplies_bf16
from compressor.prompts import answer_lengths
from compressor.recipe import Recipe
from compressor.streams import LazyModel
from compressor.work import Work, belongs

Stage = Literal["calibrate", "score", "plan", "prune", "heal", "evaluate", "export"]
STAGES: tuple[Stage, ...] = (
    "calibrate", "score", "plan", "prune", "heal", "evaluate", "export",
)  # fmt: skip
_READ_SUFFIXES = {".safetensors", ".json", ".jinja", ".model", ".txt"}
"""Of the files of a model directory that a compression reads."""
_PIECES = 3
"""Of what the pieces mean; 2: massive positions count less."""
_ROOM_TO_ASK = 2.5
"""Times the weights' bytes: them, and the KV cache and activations of a batch of questions."""
_BATCH_ELEMENTS = 1 << 23
"""32 MB in float32: a layer has a handful of such activations at once."""
Progress = Callable[[Stage, float], None]
"""Hears the stage and the share of it that is done; may raise `Cancelled` to stop the job."""
MeasureLatency = Callable[[Path, Callable[[float], None]], LatencyTable]
"""Gives the latency table of a model directory; tells the share that is done."""


def compute_device() -> torch.device:
    """Where layers are computed: the GPU if there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def has_bf16(device: torch.device) -> bool:
    """Whether a device multiplies bf16 itself; a processor that does not is slower than in float32."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return multiplies_bf16(cpu_flags())


@dataclass(frozen=True)
class Job:
    """One compression: what it starts from, and where its pieces are kept."""

    source: Path
    recipe: Recipe
    work: Work
    progress: Progress
    config: dict[str, Any]
    family: Family
    weights: Mapping[str, str]
    """sha256 of the original's weight files, by name."""
    measure_latency: MeasureLatency | None = None
    times: Path | None = None
    """Where measured times of this machine are kept; None: a report has no time of a request."""
    device: torch.device = field(default_factory=compute_device)

    def telling(self, progress: Progress) -> Job:
        """The same job, whose progress goes elsewhere; what is loaded stays loaded."""
        other = copy.copy(self)
        object.__setattr__(other, "progress", progress)
        return other

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
    def asking_device(self) -> torch.device:
        """Where whole models are asked: the GPU while it has room for one beside what serves there."""
        if self.device.type == "cuda":
            free, _ = torch.cuda.mem_get_info(self.device)
            weights = sum((self.source / name).stat().st_size for name in self.weights)
            if free < _ROOM_TO_ASK * weights:
                return torch.device("cpu")
        return self.device

    @cached_property
    def request(self) -> tuple[int, int]:
        """(text tokens, image patches) that FLOPs are counted for."""
        return inputs.reference_request(self.processor, self.family)

    @cached_property
    def model(self) -> LazyModel:
        """The original, its blocks in the memory-mapped file."""
        return LazyModel(load(self.source), self.specs, self.device)

    @property
    def batch(self) -> int:
        """Calibration examples at a time: as many as keep a batch's widest activation small."""
        fixed = self.family.fixed_flops(self.config, self.request[1])
        widest = max(
            positions_of(spec, fixed, self.request[0]) * max(spec.width, spec.ffn_width)
            for spec in self.specs
        )
        return max(1, min(inputs.BATCH, _BATCH_ELEMENTS // widest))

    @cached_property
    def data(self) -> tuple[KeptBatches, list[Tensor]]:
        """Calibration inputs by batch, and the language model's token weights."""
        chosen = inputs.mixture(
            self.recipe.calibration.datasets,
            samples=self.recipe.calibration.samples,
            seed=self.recipe.seed,
        )
        each = inputs.prepare_each(self.processor, chosen, batch=self.batch)
        batches = KeptBatches(self.work.sub("inputs"), each)
        lengths = answer_lengths(self.processor, chosen)
        token = inputs.image_token_id(self.processor)
        return batches, inputs.token_weights(batches, lengths, token)


def open_job(
    source: Path,
    recipe: Recipe,
    out: Path,
    *,
    plan: Plan | None = None,
    progress: Progress = lambda stage, share: None,
    measure_latency: MeasureLatency | None = None,
    times: Path | None = None,
) -> Job:
    """Check what a compression starts from, and open its work directory.

    Raises:
        CompressorError: it is not a whole, uncompressed model of a known family.
    """
    config, family = open_original(source)
    fingerprint = fingerprint_of(source, recipe, plan)
    weights = {k: v for k, v in fingerprint["model"].items() if k.endswith(".safetensors")}
    torch.manual_seed(recipe.seed)
    work = Work.beside(out, fingerprint)
    return Job(source, recipe, work, progress, config, family, weights, measure_latency, times)


def fingerprint_of(source: Path, recipe: Recipe, plan: Plan | None) -> dict[str, Any]:
    """Everything that the pieces of a compression depend on, as plain data."""
    names = dict.fromkeys((*recipe.calibration.datasets, *recipe.evaluation.datasets))
    return {
        "version": version("infoprune"),
        "pieces": _PIECES,
        "recipe": recipe.model_dump(mode="json"),
        "plan": plan.sha256 if plan else None,
        "model": {
            path.name: sha256_of(path)
            for path in sorted(source.iterdir())
            if path.suffix in _READ_SUFFIXES
        },
        "data": {name: state_of(name) for name in names},
    }


def is_finished(source: Path, recipe: Recipe, out: Path, plan: Plan | None) -> bool:
    """Whether `out` is what this very compression made, killed before it removed its pieces."""
    pieces = work_directory(out)
    if not (pieces.is_dir() and (out / MANIFEST).is_file() and (out / WEIGHTS).is_file()):
        return False
    made = {sha256_of(path) for path in pieces.rglob(WEIGHTS)}
    return sha256_of(out / WEIGHTS) in made and belongs(
        pieces, fingerprint_of(source, recipe, plan)
    )


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


def statistics_piece(spec: TowerSpec, index: int) -> str:
    """The name of the piece that holds a layer's statistics."""
    return f"calibrate/{spec.name}-{index}.safetensors"


def passed_piece(spec: TowerSpec, index: int) -> str:
    """The name of the mark that a layer's statistics are whole and the stream is behind it."""
    return f"calibrate/{spec.name}-{index}.json"


def scores_piece(spec: TowerSpec, index: int) -> str:
    """The name of the piece that holds a layer's scores."""
    return f"score/{spec.name}-{index}.json"


def pruned_piece(spec: TowerSpec, index: int) -> str:
    """The name of the piece that holds a layer's new weights."""
    return f"prune/{spec.name}-{index}.safetensors"
