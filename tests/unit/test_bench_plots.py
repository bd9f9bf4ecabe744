"""The benchmarks' pictures: all that was measured is in them, the same bytes for the same data."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from bench.plots import cost_plot, speed_plot

LOADS = ("prefill-heavy, batch 1", "decode-heavy, batch 16")


def cost(sizes: int) -> dict[str, Any]:
    """What `bench.cost` leaves after so many sizes."""
    rows = {
        f"{10**n}": {
            "params": 10**n, "total_s": 2.0**n,
            "weight_bytes": 2 * 10**n, "peak_memory_bytes": 3 * 10**n,
        }
        for n in range(7, 7 + sizes)
    }  # fmt: skip
    power = 0.3 if sizes > 1 else None
    return {"measured": rows, "summary": {"exponent_seconds": power, "headroom_bytes": 2e9}}


def test_speed_is_drawn_of_every_plan_that_was_measured(tmp_path: Path) -> None:
    case = {"speedup": 1.5, "speedup_range": [1.25, 1.75], "flops_ratio": 3.0}
    content = json.dumps({"cases": dict.fromkeys(LOADS, case)})
    (tmp_path / "speed.json").write_text(content)
    speed_plot(tmp_path)
    alone = (tmp_path / "speed.svg").read_text()
    assert "default plan" in alone
    assert "whole heads" not in alone
    for word in ("prefill-heavy", "decode-heavy", "batch 16"):
        assert word in alone

    (tmp_path / "speed-heads.json").write_text(content)
    speed_plot(tmp_path)
    both = (tmp_path / "speed.svg").read_text()
    assert "whole heads" in both
    speed_plot(tmp_path)
    assert (tmp_path / "speed.svg").read_text() == both


def test_cost_is_drawn_with_its_power_once_there_is_one(tmp_path: Path) -> None:
    cost_plot(cost(1), tmp_path / "one.svg")
    assert "power" not in (tmp_path / "one.svg").read_text()
    cost_plot(cost(3), tmp_path / "three.svg")
    assert "power 0.30" in (tmp_path / "three.svg").read_text()
