"""The pure parts of `make bench-cost`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bench.cost import SIZES, TEXT_TOKENS, VISUAL_TOKENS, exponent, run, sentence, summary, table


def row(params: float, seconds: float, peak: float) -> dict[str, Any]:
    return {
        "params": params, "weight_bytes": 2 * params, "total_s": seconds, "peak_memory_bytes": peak,
        "seconds": {"score": seconds / 2, "calibrate": seconds / 3, "export": 0.0, "prune": 1.0},
    }  # fmt: skip


def test_the_exponent_of_a_power_law_is_its_power() -> None:
    sizes = [1e6, 4e6, 3e7]
    assert exponent(sizes, [3e-5 * s**1.4 for s in sizes]) == pytest.approx(1.4)
    assert exponent([1e6], [1.0]) is None


@pytest.mark.parametrize("name", SIZES)
def test_every_size_has_positions_for_a_full_rank_covariance(name: str) -> None:
    size = SIZES[name]
    assert size.samples * VISUAL_TOKENS >= max(size.vision[1], size.text[0])
    assert size.samples * (VISUAL_TOKENS + TEXT_TOKENS) >= size.text[1]


def test_the_bound_is_weights_and_two_gigabytes() -> None:
    found = summary({"15M": row(15e6, 10, 0.7e9), "1B": row(1e9, 1e3, 4.1e9)})
    assert found["within_bound"] == {"15M": True, "1B": False}
    assert found["largest_above_weights_bytes"] == pytest.approx(2.1e9)


def test_sizes_that_are_done_are_kept_unless_they_changed(tmp_path: Path) -> None:
    out, asked = tmp_path / "cost.json", list[str]()

    def measured(name: str) -> dict[str, Any]:
        asked.append(name)
        if name == "250M":
            raise KeyboardInterrupt
        return row(len(asked) * 1e6, 1.0, 1e9)

    with pytest.raises(KeyboardInterrupt):
        run(["15M", "60M", "250M"], out, measured)
    assert list(json.loads(out.read_text())["measured"]) == ["15M", "60M"]
    run(["15M", "60M"], out, measured)
    assert asked == ["15M", "60M", "250M"]

    content = json.loads(out.read_text())
    content["measured"]["15M"]["size"]["recipe"]["flops"] = 0.9
    out.write_text(json.dumps(content))
    run(["15M", "60M"], out, measured)
    assert asked[3:] == ["15M"]


def test_the_table_names_the_longest_stages_and_the_sentence_the_exponents() -> None:
    measured = {"15M": row(15e6, 10, 0.5e9), "60M": row(60e6, 40, 1e9)}
    content = {"measured": measured, "summary": summary(measured)}
    assert list(table(content).columns[2].cells)[1] == "score 20 s, calibrate 13 s, prune 1 s"
    assert sentence(content) == ("Seconds grow as parameters to the 1.00, peak memory to the 0.50.")
