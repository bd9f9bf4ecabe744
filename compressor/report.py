"""The evidence that goes with a compressed model: original and compressed, side by side."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from compressor.evaluate.metrics import Interval
from compressor.flops import RequestFlops
from compressor.plan import Plan


@dataclass(frozen=True)
class Side:
    """What was measured of one model."""

    params: int
    flops: RequestFlops
    accuracy: dict[str, Interval]
    latency_s: float | None = None
    """Of the reference request by the measured table, where the target was `latency`."""

    def to_json(self) -> dict[str, Any]:
        """Plain JSON."""
        found: dict[str, Any] = {
            "params": self.params,
            "flops": self.flops.to_json(),
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

    def to_json(self) -> dict[str, Any]:
        """Plain JSON."""
        return {
            "model": self.model,
            "seed": self.seed,
            "original": self.original.to_json(),
            "compressed": self.compressed.to_json(),
            "accuracy_difference": {k: v.to_json() for k, v in self.difference.items()},
        }


def model_card(report: Report, plan: Plan) -> str:
    """README.md of a compressed checkpoint."""
    a, b = report.original, report.compressed
    rows: list[tuple[str, float, float]] = [
        ("parameters", a.params, b.params),
        ("FLOPs, vision tower", a.flops.vision, b.flops.vision),
        ("FLOPs, projector", a.flops.projector, b.flops.projector),
        ("FLOPs, LLM prefill", a.flops.prefill, b.flops.prefill),
        ("FLOPs, one decoded token", a.flops.decode_token, b.flops.decode_token),
    ]
    if a.latency_s is not None and b.latency_s is not None:
        rows.append(("latency of a request by the measured table, s", a.latency_s, b.latency_s))
    table = "\n".join(f"| {n} | {x:.4g} | {y:.4g} | {y / x:.3f} |" for n, x, y in rows)
    accuracy = "\n".join(
        f"| {name} | {_cell(a.accuracy[name])} | {_cell(b.accuracy[name])} "
        f"| {d.value:+.4f} [{d.low:+.4f}, {d.high:+.4f}] |"
        for name, d in report.difference.items()
    )
    return f"""---
library_name: infoprune
pipeline_tag: image-text-to-text
tags: [infoprune, compressed]
---
# {report.model}, compressed by InfoPrune

Plan `{plan.sha256[:16]}`, layout {plan.layout}: {plan.planned:.3f} of the original's {plan.target}
({plan.asked:g} asked). FLOPs are those before the first token, counted at {a.flops.visual_tokens}
visual and {a.flops.text_tokens} text tokens, 1 MAC = 2 FLOPs. No fine-tuning.

| | original | compressed | ratio |
|---|---|---|---|
{table}

| accuracy | original | compressed | difference, paired |
|---|---|---|---|
{accuracy or "| not measured | | | |"}

Intervals are 95 % bootstrap intervals over questions. Served by vLLM with the `infoprune` package
installed; `compressor.load(DIR)` gives a transformers model.
"""


def _cell(interval: Interval) -> str:
    return f"{interval.value:.4f} [{interval.low:.4f}, {interval.high:.4f}], n={interval.n}"
