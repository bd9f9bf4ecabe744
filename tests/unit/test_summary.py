from __future__ import annotations

import pytest
from PIL import Image

from compressor.evaluate.example import Example, Metric
from compressor.evaluate.summary import summarise


def asked(count: int, metric: Metric, answers: tuple[str, ...]) -> list[Example]:
    return [
        Example(str(n), "?", answers, metric, Image.Image, group=str(n // 2)) for n in range(count)
    ]


ASKED = {"exact": asked(8, "exact", ("red",)), "soft": asked(4, "vqa", ("red",) * 2 + ("x",) * 8)}
PERFECT = {"exact": ["Red."] * 8, "soft": ["red"] * 4}
HALF = {"exact": ["red", "blue"] * 4, "soft": ["red"] * 4}


def test_one_model_has_accuracies_and_no_difference() -> None:
    found = summarise(ASKED, {"m": PERFECT}, seed=0)
    assert found.accuracy["m"]["exact"].value == 1
    assert found.accuracy["m"]["soft"].value == pytest.approx(0.6)
    assert found.mean["m"].value == pytest.approx(0.8)
    assert (found.difference, found.mean_difference) == ({}, None)


def test_the_difference_is_the_second_models_gain_by_picture() -> None:
    found = summarise(ASKED, {"first": PERFECT, "second": HALF}, seed=0)
    exact = found.difference["exact"]
    # One of the two questions about every picture: whichever are drawn, half are lost.
    assert (exact.value, exact.low, exact.high, exact.n) == (-0.5, -0.5, -0.5, 8)
    assert found.mean_difference is not None
    assert found.mean_difference.value == pytest.approx(-0.25)
    content = found.to_json()
    assert content["models"]["second"]["accuracy"]["exact"]["value"] == 0.5
    assert content["mean_difference"]["n"] == 12
