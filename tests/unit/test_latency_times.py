from __future__ import annotations

import pytest

from service.latency.protocol import Run
from service.latency.times import by_phase, layer_timings, module_times, rest_of, spread_of


def run(seconds: float, prefill: float, *steps: float) -> Run:
    """A run with one language layer, half of whose time is its FFN."""
    events = [(30, prefill), *((1, step) for step in steps)]
    return Run(
        seconds=seconds,
        events={
            "language/0/whole": events,
            "language/0/ffn": [(tokens, s / 2) for tokens, s in events],
            "language/0/attention": [(tokens, s / 4) for tokens, s in events],
            "patches": [(0, 0.1)],
        },
        prompt_tokens=30,
    )


def test_steps_of_one_token_a_request_are_decoding() -> None:
    found = by_phase([(30, 4.0), (2, 0.5), (1, 0.3)], batch=2, steps=2)

    assert found.prefill_s == 4.0
    assert found.decode_s == pytest.approx(0.4)


def test_events_outside_the_language_model_are_prefill() -> None:
    assert by_phase([(0, 1.0), (0, 2.0)], batch=1, steps=0).prefill_s == 3.0


def test_times_are_medians_of_runs() -> None:
    runs = [run(9, 1.0, 0.2), run(9, 3.0, 0.4), run(9, 50.0, 0.6)]

    found = module_times(runs, 1, 2)["language/0/whole"]

    assert (found.prefill_s, found.decode_s) == (3.0, 0.4)


def test_what_no_layer_takes_is_the_rest_by_phase() -> None:
    prefills, decodes = [run(5.0, 3.0)], [run(9.0, 3.0, 1.0, 1.0)]

    rest = rest_of(prefills, decodes, 3)

    assert rest.prefill_s == 2.0
    assert rest.decode_s == pytest.approx(((9.0 - 5.0) - 2.0) / 2)


def test_a_layer_takes_its_prefill_and_decode_times_from_two_workloads() -> None:
    prefill = module_times([run(5.0, 3.0)], 1, 1)
    decode = module_times([run(9.0, 99.0, 1.0)], 1, 2)

    (layer,) = layer_timings(prefill, decode, "language", 1)

    assert (layer.whole.prefill_s, layer.whole.decode_s) == (3.0, 1.0)
    assert (layer.ffn.prefill_s, layer.attention.decode_s) == (1.5, 0.25)


def test_one_run_that_was_disturbed_does_not_count_as_spread() -> None:
    assert spread_of([run(1.0, 0.5)] * 9 + [run(80.0, 0.5)]) == 0.0
    assert spread_of([run(s, 0.5) for s in (1.0, 2.0, 3.0)]) == 0.5
