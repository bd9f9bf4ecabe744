"""What all methods of one seed share: the original, its calibration data, what was measured on it."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from torch import nn

from bench.compress.signals import Key, LayerSignals, collect_moments, collect_signals
from compressor import inputs
from compressor.checkpoint import Tower
from compressor.costs import FlopsCost
from compressor.evaluate.datasets import Example
from compressor.families import TowerSpec
from compressor.job import Job, open_job
from compressor.loading import assemble
from compressor.moments import Moments
from compressor.pipeline import score
from compressor.planning import cost_model
from compressor.recipe import Recipe, parse_recipe
from compressor.scoring import LayerScores
from compressor.training import Batches, batch_of

DATASETS = ("easy-vqa", "drawn-text", "drawn-scenes")
CALIBRATION_SAMPLES = 1024
CPU = torch.device("cpu")


@dataclass(frozen=True)
class Context:
    """One seed's start: every method gets the same calibration questions."""

    source: Path
    work: Path
    seed: int

    def recipe(self, **more: object) -> Recipe:
        """A recipe of this harness: its datasets, its seed, no evaluation of its own."""
        return parse_recipe(
            {
                "calibration": {"datasets": DATASETS, "samples": CALIBRATION_SAMPLES},
                "evaluation": {"datasets": DATASETS, "samples": 0},
                "seed": self.seed,
                **more,
            }
        )

    @cached_property
    def job(self) -> Job:
        """The job that calibrates and scores for all budgets; its pieces stay for the next run."""
        return open_job(self.source, self.recipe(flops=0.5), self.work / f"seed{self.seed}")

    @property
    def specs(self) -> tuple[TowerSpec, ...]:
        """Every tower of the model."""
        return self.job.specs

    @cached_property
    def cost(self) -> FlopsCost:
        """FLOPs before the first token, the unit of every budget here."""
        cost = cost_model(self.job, "flops")
        assert isinstance(cost, FlopsCost)
        return cost

    @cached_property
    def scores(self) -> Mapping[Tower, list[LayerScores]]:
        """Our own scores."""
        return score(self.job)

    @cached_property
    def _original(self) -> nn.Module:
        return assemble(self.source, torch.float32)

    def model(self) -> nn.Module:
        """A fresh copy of the original, float32."""
        return copy.deepcopy(self._original)

    @cached_property
    def moments(self) -> dict[str, Moments]:
        """Of the input of every linear, on the calibration data."""
        return collect_moments(self._original, self.specs, self.job.data[0])

    @cached_property
    def answer_moments(self) -> dict[str, Moments]:
        """The same with tokens of the language model weighted as in our own calibration."""
        batches, weights = self.job.data
        return collect_moments(self._original, self.specs, batches, weights)

    @cached_property
    def signals(self) -> dict[Key, LayerSignals]:
        """First-order effects and attention entropies, on the calibration data."""
        model = self.model()
        set_attention = model.set_attn_implementation
        assert callable(set_attention)
        set_attention("eager")
        pool, processor = self._questions(), self.job.processor
        batches = (batch_of(processor, pool[i : i + 24], CPU) for i in range(0, len(pool), 24))
        return collect_signals(model, self.specs, batches)

    def _questions(self, samples: int = CALIBRATION_SAMPLES, offset: int = 0) -> list[Example]:
        return inputs.mixture(DATASETS, samples=samples, seed=self.seed + offset)

    def batches(
        self,
        size: int,
        *,
        samples: int = CALIBRATION_SAMPLES,
        offset: int = 0,
        device: torch.device = CPU,
    ) -> Batches:
        """Training batches of the calibration questions (or of more of the same kind)."""
        pool = self._questions(samples, offset)
        return Batches(self.job.processor, pool, batch=size, seed=self.seed, device=device)
