from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from compressor.allocation import allocate
from compressor.checkpoint import QKV, LayerShape
from compressor.costs import shapes_cost
from compressor.errors import BudgetError, CheckpointError
from compressor.families import TowerSpec
from compressor.families.base import Attention
from compressor.latency.table import (
    Curve,
    EngineIdentity,
    LatencyCost,
    LatencyTable,
    ReferenceRequest,
    Seconds,
    TowerLatency,
    isotonic,
)
from compressor.plan import build_items, make_plan
from compressor.scoring import HeadScore, LayerScores

times = st.floats(0, 10, allow_nan=False)
measured = st.lists(
    st.tuples(st.integers(1, 64), st.builds(Seconds, prefill_s=times, decode_s=times)), min_size=1
)


@given(measured, st.integers(1, 100), st.lists(st.integers(0, 200), min_size=2))
def test_a_fitted_curve_never_falls(
    points: list[tuple[int, Seconds]], new_tokens: int, sizes: list[int]
) -> None:
    curve = Curve.fitted(points)
    found = [curve.at(size, new_tokens) for size in sorted(sizes)]
    assert all(a <= b + 1e-9 * abs(b) for a, b in pairwise(found))


@given(st.lists(st.tuples(times, st.integers(1, 5)), min_size=1, max_size=8))
def test_isotonic_times_keep_the_sum_and_leave_ordered_ones_alone(
    pairs: list[tuple[float, int]],
) -> None:
    values, weights = [v for v, _ in pairs], [w for _, w in pairs]
    fitted = isotonic(values, weights)

    assert all(a <= b for a, b in pairwise(fitted))
    total = sum(v * w for v, w in pairs)
    assert sum(f * w for f, w in zip(fitted, weights, strict=True)) == pytest.approx(total)
    assert isotonic(sorted(values), weights) == pytest.approx(sorted(values))


def test_between_measured_sizes_time_is_linear_and_beyond_them_the_last_slope_goes_on() -> None:
    curve = _curve({16: 1.0, 32: 2.0, 64: 6.0})

    assert curve.at(24, 1) == pytest.approx(1.5)
    assert curve.at(8, 1) == 1.0
    assert curve.at(80, 1) == pytest.approx(8.0)


def test_the_first_token_comes_with_the_prefill() -> None:
    seconds = Seconds(prefill_s=5.0, decode_s=0.5)

    assert seconds.of_request(1) == 5.0
    assert seconds.of_request(9) == 9.0


@pytest.mark.parametrize("sizes", [(2, 1), (1, 1), (1,)])
def test_a_table_with_unordered_sizes_is_refused(sizes: tuple[int, ...]) -> None:
    with pytest.raises(ValidationError):
        Curve(sizes=sizes, seconds=(Seconds(), Seconds()))


SPEC = TowerSpec(
    name="language", layers="layers", used_layers=2, heads=8, kv_heads=4, head_dim=8, width=64,
    ffn_width=128, attention=Attention("q", "k", "v", "o"), ffn_norm="norm",
    ffn_inputs=("mlp.up",), ffn_output="mlp.down",
)  # fmt: skip


def _curve(points: dict[int, float]) -> Curve:
    return Curve.fitted((size, Seconds(prefill_s=s)) for size, s in points.items())


def table(*, decode_s: float = 0.0) -> LatencyTable:
    attention = Curve(
        sizes=(1, 4),
        seconds=(Seconds(prefill_s=1.0), Seconds(prefill_s=4.0, decode_s=decode_s)),
    )
    tower = TowerLatency(
        attention=attention,
        attention_rank={name: _curve({16: 3.5, 32: 4.5}) for name in (QKV, "o")},
        ffn_width=_curve({16: 2.0, 128: 9.0}),
        ffn_rank={"up": _curve({16: 6.0, 32: 8.0}), "down": _curve({16: 5.0, 32: 10.0})},
        rest=Seconds(prefill_s=0.25),
    )
    return LatencyTable(
        architecture="X",
        request=ReferenceRequest(text_tokens=9, patches=0, visual_tokens=4),
        identity=EngineIdentity(engine="e 1", device="cpu", dtype="float32", threads=1),
        towers={"language": tower},
        rest=Seconds(prefill_s=3.0, decode_s=0.125),
        runs=5,
        spread=0.05,
    )


def test_the_cost_of_a_model_is_the_sum_of_its_parts() -> None:
    cost = LatencyCost(table(), (SPEC,), new_tokens=1)

    assert shapes_cost([SPEC], {}, cost) == pytest.approx(3.0 + 2 * (0.25 + 4.0 + 9.0))
    small = LayerShape(heads=(0, 1), kv_heads=(0,), ranks={"up": None, "down": None}, ffn_width=16)
    towers = {SPEC.name: (small, SPEC.dense_layer())}
    assert shapes_cost([SPEC], towers, cost) == pytest.approx(3.0 + 0.5 + 1.0 + 2.0 + 4.0 + 9.0)


def test_what_factoring_saves_adds_up_over_matrices() -> None:
    cost = LatencyCost(table(), (SPEC,), new_tokens=1)

    assert cost.ffn(SPEC, 0, {"up": 16, "down": None}, None) == pytest.approx(6.0)
    assert cost.ffn(SPEC, 0, {"up": 16, "down": 16}, None) == pytest.approx(9.0 - 3.0 - 4.0)


def test_what_factoring_attention_saves_shrinks_with_its_groups() -> None:
    cost = LatencyCost(table(), (SPEC,), new_tokens=1)

    assert cost.attention(SPEC, 0, 8, 4, {QKV: 16, "o": 16}) == pytest.approx(4.0 - 2 * 0.5)
    assert cost.attention(SPEC, 0, 2, 1, {QKV: 16}) == pytest.approx(1.0 - 0.5 / 4)


def test_decoded_tokens_count_in_every_part() -> None:
    one, many = (LatencyCost(table(decode_s=0.5), (SPEC,), n) for n in (1, 9))

    assert many.attention(SPEC, 0, 8, 4, {}) == one.attention(SPEC, 0, 8, 4, {}) + 8 * 0.5
    assert many.untouched == one.untouched + 8 * 0.125


def test_a_table_measured_on_a_busy_machine_says_so() -> None:
    assert table().doubt is None
    busy = table().model_copy(update={"spread": 0.5})
    assert busy.doubt is not None
    assert "spread by 50%" in busy.doubt


def test_a_table_of_other_matrices_is_refused() -> None:
    other = TowerSpec(**{**SPEC.__dict__, "ffn_inputs": ("mlp.gate", "mlp.up")})
    with pytest.raises(CheckpointError, match="does not cover the language tower"):
        LatencyCost(table(), (other,), 1)


def scores() -> LayerScores:
    return LayerScores(
        groups=tuple(HeadScore(1.0, 0.1, 0.1) for _ in range(4)),
        order=(0, 1, 2, 3),
        attention_loss=(0.0, 0.1, 0.2, 0.4),
        matrix_loss={
            name: tuple(1 - r / 64 for r in range(65)) for name in (QKV, "o", "up", "down")
        },
        neurons=tuple(range(128)),
        width_loss=tuple(1 - w / 128 for w in range(129)),
    )


@given(st.floats(0.4, 0.99))
def test_a_plan_made_of_times_keeps_its_share_of_the_time(share: float) -> None:
    cost = LatencyCost(table(decode_s=0.5), (SPEC,), 16)

    plan = make_plan(
        [SPEC], {"language": [scores()] * 2}, cost, architecture="X", target="latency",
        share=share, request=(9, 0), round_to=16,
    )  # fmt: skip

    assert plan.target == "latency"
    assert plan.planned <= share + 1e-6
    spent = shapes_cost([SPEC], plan.towers, cost) / shapes_cost([SPEC], {}, cost)
    assert plan.planned == pytest.approx(spent, abs=1e-6)


def test_a_rank_that_saves_no_time_is_no_option() -> None:
    """At rank 32 the output matrix is slower than the dense FFN, whatever its FLOPs."""
    cost = LatencyCost(table(), (SPEC,), 1)

    ffn = next(item for item in build_items(SPEC, [scores()], cost, 16) if item.part == "ffn")

    ranks = [dict(option.choice.ranks) for option in ffn.options]
    assert {"up": 16} in ranks or {"down": 16} in ranks
    assert all(each.get("down", 16) < 32 for each in ranks)


def test_the_share_that_the_engine_alone_takes_cannot_be_met() -> None:
    cost = LatencyCost(table(), (SPEC,), 1)
    items = build_items(SPEC, [scores()] * 2, cost, 16)
    with pytest.raises(BudgetError):
        allocate(items, 0.1)
