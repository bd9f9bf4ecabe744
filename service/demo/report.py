"""The demo's report: JSON for programs, a table for people."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.table import Table

from compressor.evaluate.metrics import Interval

_FLOPS = ("vision", "projector", "prefill", "decode_token")


def build_report(
    models: Sequence[dict[str, Any]], measured: Sequence[dict[str, Any]], difference: Interval
) -> dict[str, Any]:
    """`original`, `compressed`, `ratios` (compressed over original), `accuracy_difference`.

    Args:
        models: the two models as `/v1/models` describes them, the original first.
        measured: what `compare` measured of them.
        difference: of the mean over datasets, compressed less original, paired by question.
    """
    sides = [
        {
            "model": model["id"],
            "params": model["params"],
            "flops": {name: model["flops"][name] for name in _FLOPS},
            "tokens": {k: model["flops"][k] for k in ("visual_tokens", "text_tokens")},
            **numbers,
        }
        for model, numbers in zip(models, measured, strict=True)
    ]
    a, b = sides
    ratios = {
        "params": b["params"] / a["params"],
        "flops": {name: b["flops"][name] / a["flops"][name] for name in _FLOPS}
        | {"prompt": prompt_flops(b) / prompt_flops(a)},
        "accuracy": {
            name: b["accuracy"][name]["value"] / a["accuracy"][name]["value"]
            for name in a["accuracy"]
            if a["accuracy"][name]["value"]
        },
        "latency_s": {q: b["latency_s"][q] / a["latency_s"][q] for q in ("p50", "p95")},
        "throughput_rps": b["throughput_rps"] / a["throughput_rps"],
    }
    found = {"original": a, "compressed": b, "ratios": ratios}
    return {**found, "accuracy_difference": difference.to_json()}


def prompt_flops(side: dict[str, Any]) -> float:
    """All FLOPs before the first token: what the budget counts."""
    flops = side["flops"]
    return float(flops["vision"] + flops["projector"] + flops["prefill"])


def build_table(report: dict[str, Any]) -> Table:
    """The one table."""
    a, b, ratios = report["original"], report["compressed"], report["ratios"]
    tokens = a["tokens"]
    table = Table(
        title=f"{tokens['visual_tokens']} visual and {tokens['text_tokens']} text tokens a request; "
        "95 % intervals"
    )
    table.add_column("")
    for name in (a["model"], b["model"], "ratio"):
        table.add_column(name, justify="right")
    table.add_row("parameters", f"{a['params']:,}", f"{b['params']:,}", f"{ratios['params']:.3f}")
    labels = ("vision tower", "projector", "LLM prefill", "decode/token")
    for label, key in zip(labels, _FLOPS, strict=True):
        cells = [f"{side['flops'][key] / 1e6:,.1f} M" for side in (a, b)]
        table.add_row(f"FLOPs, {label}", *cells, f"{ratios['flops'][key]:.3f}")
    cells = [f"{prompt_flops(side) / 1e6:,.1f} M" for side in (a, b)]
    table.add_row("FLOPs, whole prompt", *cells, f"{ratios['flops']['prompt']:.3f}")
    for dataset, ratio in ratios["accuracy"].items():
        cells = [_interval(side["accuracy"][dataset]) for side in (a, b)]
        n = a["accuracy"][dataset]["n"]
        table.add_row(f"accuracy, {dataset} (n={n})", *cells, f"{ratio:.3f}")
    found = report["accuracy_difference"]
    interval = f"{found['value']:+.4f} [{found['low']:+.4f}, {found['high']:+.4f}]"
    table.add_row("accuracy, mean: difference", "", interval, "")
    for q in ("p50", "p95"):
        cells = [f"{side['latency_s'][q] * 1000:.1f} ms" for side in (a, b)]
        table.add_row(f"latency, {q}", *cells, f"{ratios['latency_s'][q]:.3f}")
    cells = [f"{side['throughput_rps']:.1f}" for side in (a, b)]
    table.add_row("requests/s", *cells, f"{ratios['throughput_rps']:.3f}")
    return table


def _interval(interval: dict[str, float]) -> str:
    return f"{interval['value']:.3f} [{interval['low']:.3f}, {interval['high']:.3f}]"
