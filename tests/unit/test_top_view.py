"""What `infoprune top` shows, made of two scrapes and the gateway's answers."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from typing import Any

import pytest
from rich.console import Console

from service.errors import AliasNotFoundError, ModelNotFoundError
from service.rollout.records import Shadow
from service.top.models import model_rows, ratios_of
from service.top.rows import scaled
from service.top.scrape import Between, read
from service.top.screen import fitting, render
from service.top.view import View, alias_row, check_names, job_rows, only
from tests.support.registry import alias, canary

MODELS: list[dict[str, Any]] = [
    {"id": "big", "variant": "original", "base": None, "ready": True},
    {"id": "small", "variant": "compressed", "base": "big", "ready": True},
    {"id": "other", "variant": "original", "base": None, "ready": False},
    {"id": "prod", "variant": "alias", "ready": True},
]


PER_TOKEN = "infoprune_request_time_per_output_token_seconds"
GPU = (
    'infoprune_worker_gpu_utilization_ratio{model="big",variant="x",worker="1"} 0.75\n'
    'infoprune_worker_gpu_memory_bytes{model="big",variant="x",worker="1"} 2e10\n'
)


def exposition(asked: dict[str, int], *, failed: int = 0, left: int = 0) -> str:
    lines = []
    for model, count in asked.items():
        labels = f'model="{model}",variant="x"'
        slow = "0.5" if model == "big" else "0.25"
        lines += [
            f'infoprune_requests_total{{{labels},status="200"}} {count}',
            f'infoprune_requests_total{{{labels},status="502"}} {failed}',
            f'infoprune_requests_total{{{labels},status="499"}} {left}',
            f'infoprune_tokens_total{{{labels},kind="completion"}} {3 * count}',
            f'infoprune_in_flight_requests{{{labels},replica="1"}} 2',
            f'infoprune_in_flight_requests{{{labels},replica="2"}} 1',
            f"infoprune_waiting_requests{{{labels}}} 4",
            f'infoprune_request_latency_seconds_bucket{{{labels},le="{slow}"}} {count}',
            f'infoprune_request_latency_seconds_bucket{{{labels},le="+Inf"}} {count}',
            f'{PER_TOKEN}_bucket{{{labels},le="0.02"}} {count}',
            f'{PER_TOKEN}_bucket{{{labels},le="+Inf"}} {count}',
            f'infoprune_worker_cpu_seconds_total{{{labels},worker="1"}} {count / 8}',
            f'infoprune_worker_cpu_seconds_total{{{labels},worker="2"}} {count / 8}',
            f'infoprune_worker_resident_memory_bytes{{{labels},worker="1"}} 1.5e9',
            f'infoprune_worker_resident_memory_bytes{{{labels},worker="2"}} 0.5e9',
            f'infoprune_worker_kv_cache_utilization_ratio{{{labels},worker="1"}} 0.125',
            f'infoprune_worker_kv_cache_utilization_ratio{{{labels},worker="2"}} {2 * float(slow) / 4}',
            f"infoprune_model_parameters{{{labels}}} {4e6 if model == 'big' else 1e6}",
            *(
                f'infoprune_model_flops{{{labels},part="{part}"}} 5e8'
                for part in ("vision", "projector", "prefill", "decode_token")
            ),
        ]
        value = 0.9 if model == "big" else 0.81
        for bound, shift in (("value", 0.0), ("low", -0.1), ("high", 0.05)):
            named = f'{labels},dataset="easy",bound="{bound}"'
            lines.append(f"infoprune_accuracy_ratio{{{named}}} {value + shift}")
    return "\n".join(lines) + "\n"


@pytest.fixture
def view() -> View:
    first = read(exposition({"big": 0, "small": 0}), 0.0)
    last = read(exposition({"big": 80, "small": 40}, failed=10, left=10), 10.0)
    rows = model_rows(Between(first, last), MODELS)
    shadowed = alias("prod", big=3, small=1).model_copy(
        update={"shadow": Shadow(candidate="small")}
    )
    running = alias("test", other=1).model_copy(update={"canary": canary("small", "other", step=1)})
    compared = {"agreement": {"value": 0.97, "low": 0.9, "high": 0.99, "n": 300}}
    aliases = [
        {"alias": shadowed.model_dump(mode="json"), "comparison": compared | {"next": None}},
        {
            "alias": running.model_dump(mode="json"),
            "comparison": {
                "agreement": {"value": None, "low": 0.0, "high": 1.0, "n": 0},
                "next": "hold", "reason": "12 of 200 answers",
            },
        },
    ]  # fmt: skip
    jobs = [
        {"id": "j1", "name": "small-2", "status": "running", "stage": "prune", "percent": 40.0,
         "seconds_left": 75.0, "ended": None},
        {"id": "j0", "name": "small", "status": "finished", "stage": "export", "percent": 100.0,
         "seconds_left": None, "ended": 50.0},
    ]  # fmt: skip
    return View(
        window_s=10.0,
        models=rows,
        ratios=ratios_of(rows),
        aliases=tuple(alias_row(found) for found in aliases),
        jobs=job_rows(jobs, ended_since=100.0),
    )


def test_a_models_row_has_its_rates(view: View) -> None:
    big, small, other = view.models
    assert (big.requests_per_s, small.requests_per_s) == (10.0, 6.0)
    assert (big.tokens_per_s, big.in_flight, big.waiting) == (24.0, 3, 4)
    assert big.p50_s == pytest.approx(0.25)
    assert small.p95_s == pytest.approx(0.2375)
    assert big.error_share == pytest.approx(10 / 90), "a client that left does not count"
    assert big.accuracy["easy"].low == pytest.approx(0.8)
    assert (other.requests_per_s, other.p50_s, other.error_share) == (0.0, None, None)


def test_a_models_row_has_what_it_uses_and_costs(view: View) -> None:
    big, small, other = view.models
    assert big.p99_s == pytest.approx(0.495)
    assert big.per_token_p50_s == pytest.approx(0.01)
    assert (big.cores, small.cores) == (2.0, 1.0)
    assert (big.memory_bytes, big.params) == (2e9, 4e6)
    assert big.prompt_flops == 1.5e9, "a token of the answer is not of the prompt"
    assert (big.gpus, big.gpu_memory_bytes) == (None, None)
    assert (big.kv_cache_used, other.kv_cache_used) == (0.25, None), "the fuller worker's"
    assert (other.cores, other.memory_bytes, other.params, other.prompt_flops) == (None,) * 4
    (ratios,) = view.ratios
    assert (ratios.cores, ratios.params, ratios.memory_bytes) == (0.5, 0.25, 1.0)
    assert ratios.kv_cache_used == 0.5


def test_ratios_are_compressed_over_original(view: View) -> None:
    (ratios,) = view.ratios
    assert (ratios.original, ratios.compressed) == ("big", "small")
    assert ratios.p50_s == pytest.approx(0.5)
    assert ratios.tokens_per_s == pytest.approx(0.5)
    assert ratios.accuracy == {"easy": pytest.approx(0.9)}
    assert ratios.first_token_p50_s is None


def test_an_alias_shows_its_canary_or_shadow(view: View) -> None:
    shadowed, running = view.aliases
    assert shadowed.targets == {"big": 0.75, "small": 0.25}
    assert (shadowed.kind, shadowed.candidate, shadowed.pairs) == ("shadow", "small", 300)
    assert shadowed.agreement is not None
    assert shadowed.agreement.low == 0.9
    assert (running.kind, running.percent, running.step, running.steps) == ("canary", 5.0, 2, 5)
    assert (running.agreement, running.next) == (None, "hold: 12 of 200 answers")
    assert running.targets == {"other": 0.95}, "what does not go to the canary"


def test_jobs_that_ended_long_ago_are_not_shown(view: View) -> None:
    assert [job.id for job in view.jobs] == ["j1"]


@pytest.mark.parametrize(
    ("models", "aliases", "shown"),
    [
        ((), (), ["big", "small", "other"]),
        (("small",), (), ["big", "small"]),
        (("other",), (), ["other"]),
        ((), ("prod",), ["big", "small"]),
        ((), ("test",), ["big", "small", "other"]),
        (("unknown",), (), []),
    ],
)
def test_a_filter_keeps_what_is_compared_with(
    view: View, models: tuple[str, ...], aliases: tuple[str, ...], shown: list[str]
) -> None:
    found = only(view, frozenset(models), frozenset(aliases))
    assert [row.model for row in found.models] == shown


def test_what_is_not_there_is_said_but_what_a_job_makes_may_be_asked_for(view: View) -> None:
    check_names(view, frozenset({"small", "small-2"}), frozenset({"prod"}))
    with pytest.raises(
        ModelNotFoundError, match="'smal' does not exist; models: big, small, other"
    ):
        check_names(view, frozenset({"smal"}), frozenset())
    with pytest.raises(AliasNotFoundError, match="'prd' does not exist; aliases: prod, test"):
        check_names(view, frozenset(), frozenset({"prd"}))
    check_names(
        replace(view, notes=("This key sees no aliases.",)), frozenset(), frozenset({"prd"})
    )


def test_a_look_at_nothing_says_so(view: View) -> None:
    quiet = tuple(replace(row, requests_per_s=0.0) for row in view.models)
    out = io.StringIO()
    Console(file=out, width=160).print(render(replace(view, models=quiet)))
    assert "No request ended in these 10 s." in out.getvalue()


def test_the_screen_says_all_of_it(view: View) -> None:
    out = io.StringIO()
    Console(file=out, width=160).print(render(view))
    text = out.getvalue()
    for shown in (
        "Last 10 s", "10.00", "250.0 ms", "11.1%", "0.900 [0.800, 0.950]", "3 / 4", "other (not ready)",
        "shadow small", "0.970 [0.900, 0.990] (n=300)", "canary small, 5 %, step 2 of 5",
        "12 of 200 answers", "prune", "40 %", "0:01:15", "latency, p99", "2 GB", "4 M", "1.5 G",
    ):  # fmt: skip
        assert shown in text, text
    assert "\x1b" not in text


def on_a_terminal(view: View, width: int, height: int) -> list[str]:
    out = io.StringIO()
    console = Console(file=out, width=width, height=height)
    console.print(fitting(view, console))
    return out.getvalue().splitlines()


def test_a_low_terminal_has_the_rows_that_matter_most(view: View) -> None:
    pair = replace(view, models=view.models[:2], aliases=(), jobs=())
    low, high = on_a_terminal(pair, 80, 20), on_a_terminal(pair, 80, 24)
    assert len(low) <= 20
    assert low[-1] == "More rows on a higher terminal, and by --once."
    assert any("latency, p95" in line for line in low)
    assert not any("latency, p99" in line or "cores" in line for line in low)
    assert 20 < len(high) <= 24
    assert any("cores in use" in line for line in high)
    assert max(map(len, high)) <= 80
    assert not any("…" in line for line in [*low, *high]), "nothing is cut off"


def test_rows_of_graphics_cards_are_shown_where_there_are_any(view: View) -> None:
    assert not any("cards" in line for line in on_a_terminal(view, 160, 200))
    last = read(exposition({"big": 80}) + GPU, 10.0)
    rows = model_rows(Between(read(exposition({"big": 0}), 0.0), last), MODELS[:1])
    shown = "\n".join(on_a_terminal(replace(view, models=rows, ratios=()), 160, 200))
    assert "0.75" in shown
    assert "20 GB" in shown


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0.0, "0"),
        (42.0, "42"),
        (999.4, "999"),
        (999.6, "1 k"),
        (1_234_567.0, "1.23 M"),
        (12_345_678.0, "12.3 M"),
        (199_960_000_000.0, "200 G"),
        (2e12, "2 T"),
    ],
)
def test_large_numbers_have_three_digits_and_a_prefix(value: float, shown: str) -> None:
    assert scaled(value) == shown


def test_a_view_is_json(view: View) -> None:
    found = json.loads(json.dumps(view.to_json()))
    assert found["ratios"][0]["compressed"] == "small"
    assert found["models"][0]["accuracy"]["easy"]["value"] == 0.9
