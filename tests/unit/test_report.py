"""The report of a compression: its data, its charts, its page."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compressor.evaluate.metrics import Interval
from compressor.flops import RequestFlops
from compressor.meter import Spent
from compressor.plan import Plan
from compressor.recipe import parse_recipe
from compressor.report import charts
from compressor.report.card import model_card
from compressor.report.data import Curve, Evidence, Report, Side, TowerDetails, curve
from compressor.report.page import page, short

OPEN = {"meta", "i", "br", "hr", "img", "link"}


def side(scale: float, *, latency_s: float | None = None) -> Side:
    flops = RequestFlops(1e9 * scale, 1e7, 2e9 * scale, 2e7 * scale, 64, 25)
    accuracy = {"easy-vqa": Interval(0.9, 0.85, 0.95, 100)}
    kv_values = int(4096 * scale)
    return Side(int(1e7 * scale), int(2e7 * scale), flops, kv_values, accuracy, latency_s)


def report(model: str = "tiny", *, latency: bool = False) -> Report:
    times = (0.08, 0.05) if latency else (None, None)
    sides = (side(1.0, latency_s=times[0]), side(0.5, latency_s=times[1]))
    change = Interval(-0.01, -0.02, 0.0, 100)
    by = "measured here" if latency else None
    return Report(model, *sides, {"easy-vqa": change}, 7, mean_difference=change, latency_by=by)


def tower(layers: int, heads: int, width: int) -> TowerDetails:
    losses = [math.exp(-5 * i / width) * (width - i) for i in range(width + 1)]
    cut = width // 2
    return TowerDetails(
        tower="language", heads=heads, group=2,
        head_scores=tuple(
            tuple(0.1 * (1 + layer + g) for g in range(heads // 2)) for layer in range(layers)
        ),
        gates=((0.0, *(1.0,) * (heads // 2 - 1)),) * layers,
        kept_heads=tuple(tuple(range(2, heads)) for _ in range(layers)),
        ffn_width=width, widths=(cut,) * layers,
        full_ranks={"gate_proj": width, "down_proj": width},
        ranks=tuple({"gate_proj": cut, "down_proj": None} for _ in range(layers)),
        spectra={
            "gate_proj": (curve(losses, cut),) * layers,
            "down_proj": (curve(losses, None),) * layers,
        },
        width_curves=(curve(losses, cut),) * layers,
    )  # fmt: skip


def evidence(shown: Report | None = None, towers: tuple[TowerDetails, ...] = ()) -> Evidence:
    plan = Plan(
        architecture="LlavaForConditionalGeneration", layout="adaptive", target="flops", asked=0.5,
        planned=0.499, text_tokens=25, patches=0, towers={"language": ()},
    )  # fmt: skip
    recipe = parse_recipe({"flops": 0.5, "seed": 7})
    weights = {"model.safetensors": "ab" * 32}
    return Evidence(shown or report(), plan, recipe, weights, towers or (tower(3, 4, 64),))


class Checker(HTMLParser):
    """Notes what a page would load, and whether its elements are closed."""

    def __init__(self) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.ids: list[str] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name in ("src", "href", "xlink:href", "action") and value:
                self.loads.append(value)
            if name == "id" and value:
                self.ids.append(value)
        if tag not in ("meta",):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def checked(html: str) -> Checker:
    checker = Checker()
    checker.feed(html)
    assert checker.open == []
    return checker


def test_the_page_loads_nothing_from_elsewhere_and_runs_nothing() -> None:
    html = page(evidence())

    found = checked(html)

    inside = ("#", "data:image/png;base64,", "data.json")
    assert all(target.startswith(inside) for target in found.loads)
    assert "<script" not in html
    assert "@import" not in html
    assert not re.findall(r"url\((?!#)", html)


def test_every_picture_has_names_of_its_own() -> None:
    ids = checked(page(evidence())).ids
    assert len(ids) == len(set(ids))
    assert len(ids) > 100


def test_the_page_shows_what_was_measured() -> None:
    html = page(evidence(report(latency=True)))
    for shown in (
        "1.99x", "5 M", "10 MB", "-1.00 points", "0.9000 [0.8500, 0.9500]",
        "-0.0100 [-0.0200, +0.0000]", "1.60x", "Seed 7", "ab" * 32, evidence().plan.sha256,
        "Left as in the original: Vision tower, Projector", "width=device-width",
        "prefers-color-scheme: dark",
    ):  # fmt: skip
        assert shown in html, shown


def test_page_card_and_table_show_the_mean_where_it_says_more_than_one_dataset() -> None:
    one = report()
    sides = [
        replace(s, accuracy=s.accuracy | {"gqa": s.accuracy["easy-vqa"]})
        for s in (one.original, one.compressed)
    ]
    two = replace(
        one, original=sides[0], compressed=sides[1],
        difference=one.difference | {"gqa": Interval(0.05, 0.0, 0.1, 100)},
        mean_difference=Interval(0.02, -0.015, 0.055, 200),
    )  # fmt: skip
    shown = "+0.0200 [-0.0150, +0.0550]"
    assert shown in page(evidence(two))
    assert shown in model_card(evidence(two))
    assert two.to_json()["mean_accuracy_difference"]["value"] == 0.02
    assert "mean of the datasets" not in page(evidence(one)) + model_card(evidence(one))


def test_a_page_without_evaluation_or_scores_says_so() -> None:
    bare = replace(tower(3, 4, 64), head_scores=(), spectra={}, width_curves=())
    unmeasured = replace(report(), difference={})

    html = page(evidence(unmeasured, (bare,)))

    assert "the recipe asked for no evaluation" in html
    assert "replayed" in html


def test_a_models_name_is_text_and_no_markup() -> None:
    html = page(evidence(report("<b>bold</b>")))
    assert "<b>bold" not in html
    assert "&lt;b&gt;bold" in html


def test_the_same_data_give_the_same_bytes() -> None:
    assert page(evidence()) == page(evidence())


def test_a_long_model_still_is_a_small_page() -> None:
    """32 layers of 32 heads with spectra of 4096, in both towers."""
    long = tower(32, 32, 4096)
    towers = (replace(long, tower="vision"), long)
    assert len(page(evidence(None, towers))) < 2_000_000


def test_charts_take_the_colour_of_the_page() -> None:
    drawn = charts.heat_map(tower(3, 4, 64))
    assert "currentColor" in drawn
    assert "#010203" not in drawn


def test_every_head_that_was_cut_has_a_cross() -> None:
    some = charts.heat_map(tower(3, 4, 64))  # two heads of each of three layers
    none = charts.heat_map(replace(tower(3, 4, 64), kept_heads=((0, 1, 2, 3),) * 3))
    assert some.count("ff3b30") - none.count("ff3b30") >= 6


@given(st.integers(1, 6000), st.data())
def test_a_curve_has_its_ends_and_the_chosen_size(size: int, data: st.DataObject) -> None:
    chosen = data.draw(st.none() | st.integers(0, size))

    found = curve([float(size - i) for i in range(size + 1)], chosen)

    assert found.at[0] == 0
    assert found.at[-1] == size
    assert found.chosen == (size if chosen is None else chosen)
    assert found.lost_at_chosen == pytest.approx(1 - found.chosen / size, rel=1e-4)
    assert list(found.at) == sorted(set(found.at))
    assert len(found.at) <= 67


def test_a_curve_of_nothing_is_flat() -> None:
    assert curve([0.0, 0.0], None) == Curve((0, 1), (0.0, 0.0), 1)


def test_what_a_run_cost_is_told_but_not_exported() -> None:
    costly = replace(report(), spent=Spent({"score": 1.23456}, 10, 0))
    assert costly.to_json()["spent"]["seconds"] == {"score": 1.235}
    assert "spent" not in report().to_json()


def test_the_card_has_the_table_and_links_to_the_report() -> None:
    card = model_card(evidence())
    assert "(report/index.html)" in card
    assert "| parameters | 1e+07 | 5e+06 | 0.500 |" in card
    assert "| FLOPs, whole prompt | 3.01e+09 | 1.51e+09 | 0.502 |" in card
    assert "-0.0100 [-0.0200, +0.0000]" in card


@pytest.mark.parametrize(
    ("value", "shown"), [(12.0, "12"), (1234.0, "1.234 k"), (2.5e9, "2.5 G"), (7e12, "7 T")]
)
def test_numbers_are_short(value: float, shown: str) -> None:
    assert short(value) == shown
