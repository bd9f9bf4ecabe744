"""How long a job is at each stage."""

from __future__ import annotations

import pytest

from service.jobs.stages import StageTimes


def test_the_time_before_a_report_was_the_stage_that_it_names() -> None:
    times = StageTimes()
    times.heard("calibrate", 0.0, 10.0)
    times.heard("calibrate", 0.5, 13.0)
    times.heard("score", 0.5, 15.0)  # its first report comes in the midst of it
    times.heard("plan", 1.0, 16.0)
    assert times.spent == {"calibrate": 3.0, "score": 2.0, "plan": 1.0}


def test_a_report_of_nothing_done_opens_its_stage() -> None:
    times = StageTimes()
    times.heard("plan", 1.0, 0.0)
    times.heard("export", 0.0, 4.0)
    times.heard("export", 1.0, 5.0)
    assert times.spent == {"plan": 4.0, "export": 1.0}


def test_a_second_attempt_adds_to_the_first() -> None:
    times = StageTimes({"calibrate": 100.0})
    times.heard("calibrate", 0.0, 0.0)
    times.heard("calibrate", 1.0, 0.25)
    assert times.spent == {"calibrate": pytest.approx(100.25)}
