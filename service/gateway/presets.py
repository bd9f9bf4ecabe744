"""Recipes to start a form from: those of docs/recipes.md, by its headings; a test holds them equal."""

from __future__ import annotations

from typing import Any, NamedTuple

_SETS = ["easy-vqa", "drawn-text", "drawn-scenes"]
_STRONG: dict[str, Any] = {
    "flops": 0.3125,
    "calibration": {"datasets": _SETS, "samples": 1024},
    "evaluation": {"datasets": _SETS, "samples": 500},
}


class Goal(NamedTuple):
    """What someone wants, and the recipe for it; `service/gateway/recipes.py` parses it."""

    name: str
    description: str
    recipe: dict[str, Any]


GOALS = (
    Goal(
        "Half of the FLOPs, without training",
        "Keeps half of the FLOPs before the first token; nothing is trained.",
        {"flops": 0.5},
    ),
    Goal(
        "The smallest model that loses at most one point",
        "Bisects for the smallest plan that, at 95 % confidence, loses at most one point of accuracy.",
        {
            "max_accuracy_drop": 0.01,
            "calibration": {"datasets": _SETS},
            "evaluation": {"datasets": _SETS, "validation_samples": 1000},
        },
    ),
    Goal(
        "A latency on this machine",
        "Keeps 0.7 of the original's measured time for one request with 16 tokens of answer.",
        {"latency": 0.7, "new_tokens": 16},
    ),
    Goal(
        "A checkpoint that stock vLLM loads",
        "Gives every layer of a tower the same shape, which loads without this package and loses more.",
        {"flops": 0.7, "layout": "uniform"},
    ),
    Goal(
        "The highest compression: gates, then recovery",
        "Learns which heads go, then trains what stays with the original as its teacher.",
        _STRONG | {"scheme": "trained", "training": {"steps": 100}, "recovery": {"steps": 1000}},
    ),
    Goal(
        "The 3.2x of the README",
        "Keeps 0.3125 of the FLOPs and trains 1000 steps of recovery.",
        _STRONG | {"recovery": {"steps": 1000}},
    ),
    Goal(
        "Faster prefill and decoding: whole heads",
        "Cuts attention by whole heads, which shrinks the KV cache, and trains 2000 steps of recovery.",
        _STRONG
        | {"low_rank_attention": False, "recovery": {"steps": 2000, "learning_rate": 4.0e-4}},
    ),
)
