from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from service.routing.rate import Rate, admit

GAPS = st.lists(st.floats(0, 5), max_size=200)


@given(GAPS, st.floats(1, 600), st.integers(1, 20))
def test_no_window_holds_more_than_the_burst_and_the_rate(
    gaps: list[float], per_minute: float, burst: int
) -> None:
    rate = Rate(per_minute, burst)
    due = now = 0.0
    admitted: list[float] = []
    for gap in gaps:
        now += gap
        due, wait = admit(rate, due, now)
        if not wait:
            admitted.append(now)
    for i, start in enumerate(admitted):
        for j in range(i, len(admitted)):
            allowed = burst + (admitted[j] - start) / rate.interval_s
            assert j - i + 1 <= allowed + 1e-6


@given(st.floats(1, 600), st.integers(1, 20), st.floats(0, 1e6))
def test_a_burst_passes_then_one_has_to_wait_as_long_as_it_is_told(
    per_minute: float, burst: int, now: float
) -> None:
    rate = Rate(per_minute, burst)
    due = 0.0
    for _ in range(burst):
        due, wait = admit(rate, due, now)
        assert wait == 0.0
    same, wait = admit(rate, due, now)
    assert same == due, "a refused request costs nothing"
    assert 0 < wait <= rate.interval_s * (1 + 1e-6)
    assert admit(rate, due, now + wait * (1 + 1e-6) + 1e-6)[1] == 0.0


def test_at_the_full_rate_nobody_waits() -> None:
    rate, due = Rate(per_minute=60, burst=1), 0.0
    for second in range(1000):
        due, wait = admit(rate, due, float(second))
        assert wait == 0.0
