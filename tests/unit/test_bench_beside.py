"""What clients feel of a job: the table's ratios."""

from __future__ import annotations

from bench.beside import Felt, Round, table
from bench.page import markdown


def test_ratios_are_medians_over_rounds_of_the_same_kind() -> None:
    alone = Felt(0.010, 0.020, 100.0)
    slow = [Round(0, alone, Felt(0.010 * k, 0.020 * k, 100 / k), 60.0) for k in (2, 3, 10)]
    fair = [Round(10, alone, Felt(0.011, 0.024, 95.0), 80.0)]

    lines = markdown(table([*slow, *fair], clients=4)).splitlines()

    assert (
        "| niceness 0: does not give way | 10.0 ms | 30.0 ms | 3.00 | 3.00 | 0.33 | 60 s |" in lines
    )
    assert "| niceness 10 (the default) | 10.0 ms | 11.0 ms | 1.10 | 1.20 | 0.95 | 80 s |" in lines


def test_a_block_of_answers_is_felt_by_its_percentiles_and_rate() -> None:
    felt = Felt.of([k / 1000 for k in range(1, 102)], seconds=2.0)
    assert (round(felt.p50_s, 6), round(felt.p95_s, 6), felt.rps) == (0.051, 0.096, 50.5)
