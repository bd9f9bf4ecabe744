from __future__ import annotations

import pytest

from bench.speed.cases import Case, compare, flops_by_part, seconds_by_part
from bench.speed.models import SIZES, Size, model_config
from bench.speed.transfer import transfer
from compressor.checkpoint import LayerShape
from compressor.families import FixedFlops, TowerSpec, family_of
from compressor.families.base import Attention
from compressor.flops import request_flops


def spec(layers: int, heads: int, width: int, ffn_width: int) -> TowerSpec:
    return TowerSpec(
        name="language", layers="layers", used_layers=layers, heads=heads, kv_heads=heads,
        head_dim=8, width=width, ffn_width=ffn_width, attention=Attention("q", "k", "v", "o"),
        ffn_norm="norm", ffn_inputs=("mlp.up",), ffn_output="mlp.down",
    )  # fmt: skip


SMALL, LARGE = spec(2, 4, 64, 128), spec(6, 16, 512, 1024)
DENSE: dict[str, int | None] = {"up": None, "down": None}


def layer(heads: int, ffn_width: int | None = None, **ranks: int) -> LayerShape:
    kept = tuple(range(heads))
    return LayerShape(heads=kept, kv_heads=kept, ranks=DENSE | ranks, ffn_width=ffn_width)


def test_shares_are_kept_at_the_same_relative_depth() -> None:
    plan = (layer(1, 32), layer(3, up=21))  # break-even of 128 x 64 is 42.7

    found = transfer({"language": plan}, [SMALL], [LARGE], 16)["language"]

    assert [len(shape.kv_heads) for shape in found] == [4, 4, 4, 12, 12, 12]
    assert [shape.ffn_width for shape in found] == [256] * 3 + [None] * 3
    assert found[0].ranks == DENSE
    # Half of the break-even rank of 1024 x 512, 341.
    assert found[5].ranks == DENSE | {"up": 160 + 16 * (round(168 / 16) - 10)}


def test_a_matrix_keeps_its_share_whatever_the_order_of_the_plans_names() -> None:
    """A plan that was read from a file has them sorted: `down` before `up`."""
    sorted_names = LayerShape(heads=(0,), kv_heads=(0,), ranks={"down": 16, "up": None})

    found = transfer({"language": (sorted_names,)}, [SMALL], [LARGE], 16)["language"]

    assert found[0].ranks == {"up": None, "down": 128}


def test_a_head_stays_and_a_whole_width_is_no_cut() -> None:
    found = transfer({"language": (layer(1, 127), layer(1, 1))}, [SMALL], [LARGE], 64)["language"]

    assert all(len(shape.kv_heads) >= 1 for shape in found)
    assert found[0].ffn_width is None
    assert found[5].ffn_width == 64


def test_a_tower_that_the_plan_leaves_alone_stays_dense() -> None:
    assert transfer({}, [SMALL], [LARGE], 16) == {}


@pytest.mark.parametrize("size", [SIZES["default"], SIZES["tiny"]])
def test_parts_add_up_to_the_flops_of_a_request(size: Size) -> None:
    config = model_config(size)
    family = family_of(config)
    fixed = family.fixed_flops(config, 0)
    case = Case("x", True, 30, 1, 1)

    parts = flops_by_part(case, family.towers(config), {}, fixed)

    whole = request_flops(family.towers(config), {}, fixed, text_tokens=30).prompt
    assert sum(parts.values()) == pytest.approx(whole)


def test_a_text_has_no_vision_and_batches_and_steps_multiply() -> None:
    fixed = FixedFlops(patch_embedding=9.0, lm_head=5.0, visual_tokens=4, vision_positions=5)

    one = flops_by_part(Case("x", False, 3, 1, 1), [SMALL], {}, fixed)
    many = flops_by_part(Case("x", False, 3, 3, 4), [SMALL], {}, fixed)

    assert one["patches"] == 0.0
    assert many["logits"] == 4 * 3 * one["logits"]
    assert many["language FFN"] == pytest.approx(4 * one["language FFN"] / 3 * 5)


def test_a_timed_run_is_split_without_loss() -> None:
    events = {
        "patches": [(0, 0.5)],
        "vision/0/attention": [(0, 1.0)],
        "vision/0/ffn": [(0, 2.0)],
        "vision/0/whole": [(0, 3.25)],
        "projector/0/whole": [(0, 0.25)],
        "logits": [(7, 0.125)],
    }

    parts = seconds_by_part(10.0, events)

    assert sum(parts.values()) == pytest.approx(10.0)
    assert parts["vision norms"] == pytest.approx(0.25)
    assert parts["engine"] == pytest.approx(10.0 - 3.25 - 0.5 - 0.25 - 0.125)


def test_the_realised_share_is_of_the_flops_ratio() -> None:
    flops = ({"language FFN": 8.0, "logits": 2.0}, {"language FFN": 3.0, "logits": 2.0})
    parts = (
        {"language FFN": 8.0, "logits": 2.0, "engine": 2.0},
        {"language FFN": 4.0, "logits": 2.0, "engine": 2.0},
    )

    found = compare([(12.0, 8.0), (12.0, 8.0), (30.0, 8.0)], parts, flops)

    assert found["flops_ratio"] == 2.0
    assert found["speedup"] == 1.5
    assert found["realised"] == 0.75
    assert found["speedup_range"] == [1.5, 3.75]
    assert found["parts"]["language FFN"]["excess_s"] == pytest.approx(1.0)
    assert found["parts"]["logits"]["excess_s"] == 0.0
    assert found["parts"]["engine"]["excess_s"] == pytest.approx(1.0)
