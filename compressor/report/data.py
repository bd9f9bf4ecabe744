"""What a report holds. Plain data; nothing in what is exported depends on time or place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from compressor.checkpoint import Tower
from compressor.evaluate.metrics import Interval
from compressor.families import TowerSpec
from compressor.flops import RequestFlops
from compressor.meter import Spent
from compressor.plan import Plan, PlannedLayer
from compressor.recipe import Recipe
from compressor.scoring import LayerScores

POINTS = 64
"""Of a curve at the most, its two ends and the chosen size apart: 32 layers stay a small page."""


@dataclass(frozen=True)
class Side:
    """What was measured of one model."""

    params: int
    bytes: int
    """Of its weights' files."""
    flops: RequestFlops
    kv_values: int
    """Numbers in the KV cache for a position."""
    accuracy: dict[str, Interval]
    latency_s: float | None = None
    """Of the reference request, see `Report.latency_by`; None = not measured."""

    def to_json(self) -> dict[str, Any]:
        """Plain JSON."""
        found: dict[str, Any] = {
            "params": self.params,
            "bytes": self.bytes,
            "flops": self.flops.to_json(),
            "kv_values": self.kv_values,
            "accuracy": {name: interval.to_json() for name, interval in self.accuracy.items()},
        }
        return found if self.latency_s is None else found | {"latency_s": self.latency_s}


@dataclass(frozen=True)
class Report:
    """Both models and the paired difference of their accuracies."""

    model: str
    original: Side
    compressed: Side
    difference: dict[str, Interval]
    """Compressed minus original, paired by question."""
    seed: int
    mean_difference: Interval | None = None
    """The same of the unweighted mean over datasets; None: nothing was asked."""
    latency_by: str | None = None
    """What both sides' `latency_s` are times of, and how they were measured or predicted."""
    spent: Spent | None = None
    """What this run cost. None in what is exported, which is the same from run to run."""

    @property
    def overall(self) -> Interval | None:
        """The mean's difference, where it says more than the one dataset's."""
        return self.mean_difference if len(self.difference) > 1 else None

    def to_json(self) -> dict[str, Any]:
        """Plain JSON."""
        found: dict[str, Any] = {
            "model": self.model,
            "seed": self.seed,
            "original": self.original.to_json(),
            "compressed": self.compressed.to_json(),
            "accuracy_difference": {k: v.to_json() for k, v in self.difference.items()},
        }
        if self.mean_difference is not None:
            found["mean_accuracy_difference"] = self.mean_difference.to_json()
        if self.latency_by is not None:
            found["latency_by"] = self.latency_by
        return found if self.spent is None else found | {"spent": self.spent.to_json()}


@dataclass(frozen=True)
class DryRun:
    """A plan, and what it would make of the model."""

    plan: Plan
    specs: tuple[TowerSpec, ...]
    original: RequestFlops
    compressed: RequestFlops
    work: Path
    """Where the scores are kept for the real run."""
    spent: Spent

    def to_json(self) -> dict[str, Any]:
        """Plain JSON."""
        return {
            "plan": self.plan.model_dump(mode="json"),
            "sha256": self.plan.sha256,
            "original": {"flops": self.original.to_json()},
            "compressed": {"flops": self.compressed.to_json()},
            "spent": self.spent.to_json(),
        }


@dataclass(frozen=True)
class Curve:
    """The share of a layer's energy that is lost at a rank or width: a thinned-out curve."""

    at: tuple[int, ...]
    """Ranks or widths, ascending from 0 to all."""
    lost: tuple[float, ...]
    """From 1 down to 0, to five digits."""
    chosen: int
    """The rank or width that the plan has; all where it has none."""

    @property
    def lost_at_chosen(self) -> float:
        """The share that the plan loses here."""
        return self.lost[self.at.index(self.chosen)]


@dataclass(frozen=True)
class TowerDetails:
    """What was found of a tower's layers, and what the plan makes of them."""

    tower: Tower
    heads: int
    group: int
    """Query heads of one KV head."""
    head_scores: tuple[tuple[float, ...], ...]
    """[layer][KV group]; empty where a plan was replayed, which needs no scores."""
    gates: tuple[tuple[float, ...], ...]
    """[layer][KV group]: probability that the learned gate is open; empty where none was trained."""
    kept_heads: tuple[tuple[int, ...], ...]
    """[layer]: query heads that stay."""
    ffn_width: int
    widths: tuple[int, ...]
    """[layer]: neurons that stay."""
    full_ranks: dict[str, int]
    ranks: tuple[dict[str, int | None], ...]
    """[layer][matrix]; None = dense."""
    spectra: dict[str, tuple[Curve, ...]]
    """[matrix][layer]: energy of the whitened matrix against rank."""
    width_curves: tuple[Curve, ...]
    """[layer]: energy of the FFN's output against neurons kept, the others compensated."""

    @property
    def layers(self) -> int:
        """Layers that the model uses."""
        return len(self.widths)


@dataclass(frozen=True)
class Evidence:
    """Everything that a page shows."""

    report: Report
    plan: Plan
    recipe: Recipe
    weights: Mapping[str, str]
    """sha256 of the original's weight files, by name."""
    towers: tuple[TowerDetails, ...]
    tried: tuple[Mapping[str, Any], ...] = ()
    """Of a search for the smallest model that keeps an accuracy: see `compressor/search.py`."""

    def to_json(self) -> dict[str, Any]:
        """Plain JSON: the report's, with plan, recipe and layers."""
        plan = self.plan.model_dump(mode="json", exclude={"towers"}) | {"sha256": self.plan.sha256}
        return self.report.to_json() | {
            "plan": plan,
            "recipe": self.recipe.model_dump(mode="json"),
            "original_weights_sha256": dict(self.weights),
            "towers": [asdict(tower) for tower in self.towers],
            "tried": [dict(each) for each in self.tried],
        }


def details(
    specs: Sequence[TowerSpec],
    plan: Plan,
    scores: Mapping[Tower, Sequence[LayerScores]],
    gates: Mapping[Tower, Sequence[Sequence[float]]],
) -> tuple[TowerDetails, ...]:
    """The layers of every tower that the plan compresses; without scores no curves."""
    return tuple(
        _tower(spec, plan.towers[spec.name], scores.get(spec.name, ()), gates.get(spec.name, ()))
        for spec in specs
        if spec.name in plan.towers
    )


def _tower(
    spec: TowerSpec,
    layers: Sequence[PlannedLayer],
    scores: Sequence[LayerScores],
    gates: Sequence[Sequence[float]],
) -> TowerDetails:
    full = {name: min(spec.matrix_shape(name)) for name in spec.ffn_names}
    if scores:  # every matrix that was scored, whatever part of a layer it is of
        full = {name: len(losses) - 1 for name, losses in scores[0].matrix_loss.items()}
    ranks = tuple({name: _ranks(layer).get(name) for name in full} for layer in layers)
    widths = tuple(layer.ffn_width or spec.ffn_width for layer in layers)
    spectra = {
        name: tuple(
            curve(s.matrix_loss[name], rank[name]) for s, rank in zip(scores, ranks, strict=True)
        )
        for name in full
        if scores
    }
    return TowerDetails(
        tower=spec.name,
        heads=spec.heads,
        group=spec.group if spec.attention else 0,
        head_scores=tuple(tuple(five_digits(g.score) for g in s.groups) for s in scores),
        gates=tuple(tuple(five_digits(each) for each in row) for row in gates),
        kept_heads=tuple(layer.heads for layer in layers),
        ffn_width=spec.ffn_width,
        widths=widths,
        full_ranks=full,
        ranks=ranks,
        spectra=spectra,
        width_curves=tuple(
            curve(s.width_loss, width)
            for s, width in zip(scores, widths if scores else (), strict=True)
        ),
    )


def _ranks(layer: PlannedLayer) -> dict[str, int | None]:
    """The ranks that a plan gives a layer's matrices, by name."""
    return dict(layer.ranks) | layer.attention_ranks


def curve(losses: Sequence[float], chosen: int | None) -> Curve:
    """The energy lost at each rank or width, thinned out: many points where few are kept.

    Args:
        losses: [r] of `LayerScores.matrix_loss` or `.width_loss`, from 0 to all.
        chosen: the plan's; None = all.
    """
    last = len(losses) - 1
    picked = {round(last * (i / (POINTS - 1)) ** 2) for i in range(POINTS)}
    at = sorted(picked | {0, last, last if chosen is None else chosen})
    whole = losses[0] or 1.0
    return Curve(
        tuple(at),
        tuple(five_digits(losses[r] / whole) for r in at),
        last if chosen is None else chosen,
    )


def five_digits(value: float) -> float:
    """Rounded, so that files are small."""
    return float(f"{value:.5g}")
