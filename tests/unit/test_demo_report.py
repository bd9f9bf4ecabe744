"""What the demo prints and writes."""

from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console

from compressor.evaluate.metrics import Interval
from service.demo.report import build_report, build_table

LOST = Interval(-0.2, -0.3, -0.1, 300)


def described(name: str, scale: float) -> dict[str, Any]:
    flops = {"vision": 100.0, "projector": 10.0, "prefill": 200.0, "decode_token": 4.0}
    return {
        "id": name,
        "params": int(1000 * scale),
        "flops": {k: v * scale for k, v in flops.items()}
        | {"visual_tokens": 64, "text_tokens": 25},
    }


def measured(accuracy: float, latency: float) -> dict[str, Any]:
    interval = {"value": accuracy, "low": accuracy - 0.1, "high": accuracy, "n": 300}
    return {
        "accuracy": {"easy-vqa": interval},
        "latency_s": {"p50": latency, "p95": 2 * latency},
        "throughput_rps": 1 / latency,
    }


def test_ratios_are_compressed_over_original() -> None:
    report = build_report(
        [described("a", 1), described("b", 0.5)], [measured(0.8, 0.2), measured(0.6, 0.1)], LOST
    )
    assert report["original"]["model"] == "a"
    assert report["ratios"]["params"] == 0.5
    assert report["ratios"]["flops"]["prompt"] == 0.5
    assert report["ratios"]["accuracy"]["easy-vqa"] == pytest.approx(0.75)
    assert report["ratios"]["latency_s"] == {"p50": 0.5, "p95": 0.5}
    assert report["ratios"]["throughput_rps"] == 2


def test_a_model_without_a_right_answer_has_no_accuracy_ratio() -> None:
    report = build_report(
        [described("a", 1), described("b", 1)], [measured(0.0, 0.1), measured(0.0, 0.1)], LOST
    )
    assert report["ratios"]["accuracy"] == {}


def test_the_table_shows_what_the_report_holds() -> None:
    report = build_report(
        [described("a", 1), described("b", 0.5)], [measured(0.8, 0.2), measured(0.6, 0.1)], LOST
    )
    output = io.StringIO()
    Console(file=output, width=120).print(build_table(report))
    text = output.getvalue()
    assert "64 visual and 25 text tokens" in text
    assert "0.800 [0.700, 0.800]" in text
    assert "-0.2000 [-0.3000, -0.1000]" in text
    assert "100.0 ms" in text
