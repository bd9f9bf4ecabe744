"""README.md of a compressed checkpoint: the model card, with the measured table."""

from __future__ import annotations

from compressor.evaluate.metrics import Interval
from compressor.report.data import Evidence, Report


def rows(report: Report) -> list[tuple[str, float, float]]:
    """(what, original, compressed) of everything that has a ratio."""
    a, b = report.original, report.compressed
    found: list[tuple[str, float, float]] = [
        ("parameters", a.params, b.params),
        ("bytes of weights", a.bytes, b.bytes),
        ("FLOPs, whole prompt", a.flops.prompt, b.flops.prompt),
        ("FLOPs, vision tower", a.flops.vision, b.flops.vision),
        ("FLOPs, projector", a.flops.projector, b.flops.projector),
        ("FLOPs, LLM prefill", a.flops.prefill, b.flops.prefill),
        ("FLOPs, one decoded token", a.flops.decode_token, b.flops.decode_token),
        ("KV cache, numbers a position", a.kv_values, b.kv_values),
    ]
    if a.latency_s is not None and b.latency_s is not None:
        found.append(("latency of a request, ms", 1000 * a.latency_s, 1000 * b.latency_s))
    return found


def model_card(evidence: Evidence) -> str:
    """The card, in the hub's format."""
    report, plan = evidence.report, evidence.plan
    flops = report.original.flops
    table = "\n".join(f"| {n} | {x:.4g} | {y:.4g} | {y / x:.3f} |" for n, x, y in rows(report))
    accuracy = "\n".join(
        f"| {name} | {cell(report.original.accuracy[name])} "
        f"| {cell(report.compressed.accuracy[name])} "
        f"| {change(d)} |"
        for name, d in report.difference.items()
    )
    if (mean := report.overall) is not None:
        accuracy += f"\n| mean of the datasets | | | {change(mean)} |"
    latency = f"Latency: {report.latency_by}.\n\n" if report.latency_by else ""
    steps = evidence.recipe.recovery.steps
    recovery = f"Recovered with {steps} steps of training." if steps else "No fine-tuning."
    return f"""---
library_name: infoprune
pipeline_tag: image-text-to-text
tags: [infoprune, compressed]
---
# {report.model}, compressed by InfoPrune

Plan `{plan.sha256[:16]}`, layout {plan.layout}: {plan.planned:.3f} of the original's {plan.target}
({plan.asked:g} asked). FLOPs are those before the first token, counted at {flops.visual_tokens}
visual and {flops.text_tokens} text tokens, 1 MAC = 2 FLOPs. {recovery}

| | original | compressed | ratio |
|---|---|---|---|
{table}

{latency}| accuracy | original | compressed | difference, paired |
|---|---|---|---|
{accuracy or "| not measured | | | |"}

Intervals are 95 % bootstrap intervals over pictures; questions are asked without OCR tokens. [The
report](report/index.html) shows what was cut in which layer and why, and the recipe; [the same as
data](report/data.json).

{served_by(evidence)}
"""


def served_by(evidence: Evidence) -> str:
    """One sentence on what loads the model."""
    if evidence.plan.layout == "uniform":
        return "Stock vLLM and stock transformers load it."
    return (
        "vLLM serves it where infoprune is installed; compressor.load(DIR) gives a transformers "
        "model."
    )


def change(interval: Interval) -> str:
    """A difference with its interval."""
    return f"{interval.value:+.4f} [{interval.low:+.4f}, {interval.high:+.4f}]"


def cell(interval: Interval) -> str:
    """A mean with its interval."""
    return f"{interval.value:.4f} [{interval.low:.4f}, {interval.high:.4f}], n={interval.n}"
