from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compressor.evaluate.endpoint import Retry, api_root


@pytest.mark.parametrize("url", ["http://h:1", "http://h:1/", "http://h:1/v1", "http://h:1/v1/"])
def test_an_endpoint_is_given_with_or_without_v1(url: str) -> None:
    assert api_root(url) == "http://h:1/v1"


@given(st.integers(1, 50), st.floats(0, 1, exclude_max=True), st.floats(0, 1000))
def test_a_wait_is_bounded_and_as_long_as_the_server_asks(
    failures: int, draw: float, asked_s: float
) -> None:
    retry = Retry(first_s=0.5, longest_s=30)
    wait_s = retry.wait_s(failures, asked_s, draw)
    assert min(asked_s, 30) <= wait_s <= 30
    assert retry.wait_s(failures, None, draw) >= 0.25


def test_waits_double() -> None:
    waits = [Retry(first_s=1, longest_s=10).wait_s(n, None, 0.0) for n in range(1, 7)]
    assert waits == [0.5, 1, 2, 4, 5, 5]
