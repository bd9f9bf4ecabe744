"""Pure parts of jobs: progress, who is abandoned, request bodies."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rq.job import JobStatus as RqStatus

from compressor.job import STAGES, Stage
from compressor.progress import overall, seconds_left, stage_weights
from compressor.recipe import parse_recipe
from service.errors import InvalidRequestError
from service.gateway.compression import event_of
from service.jobs.execution import Execution, Superseded
from service.jobs.records import JobRecord, JobRecords, JobStatus
from service.jobs.sweeper import GRACE_S, SILENT_S, is_abandoned
from service.schemas import parse_compress_request


@pytest.mark.parametrize(
    "recipe",
    [
        {"flops": 0.5},
        {"flops": 0.5, "evaluation": {"samples": 0}},
        {"params": 0.5, "recovery": {"steps": 300}, "scheme": "trained"},
        {"max_accuracy_drop": 0.01},
    ],
)
def test_progress_runs_from_nothing_to_everything_without_a_step_back(
    recipe: dict[str, Any],
) -> None:
    weights = stage_weights(parse_recipe(recipe))
    steps = [overall(stage, share / 10, weights) for stage in STAGES for share in range(11)]
    assert steps[0] == 0
    assert steps[-1] == pytest.approx(100)
    assert all(a <= b for a, b in pairwise(steps))


def test_the_time_left_is_told_at_the_rate_since_the_start() -> None:
    assert seconds_left(0.0, 25.0, 10.0) == pytest.approx(30.0)
    # A job that goes on at 60 % after a kill has not done those in two seconds.
    assert seconds_left(60.0, 70.0, 10.0) == pytest.approx(30.0)
    assert seconds_left(0.0, 100.0, 10.0) == 0


def test_the_time_left_is_not_guessed_from_nothing() -> None:
    assert seconds_left(0.0, 1.0, 10.0) is None
    assert seconds_left(60.0, 90.0, 0.5) is None


class Told:
    """A fake of the records that notes what was told, and may refuse it."""

    def __init__(self, *, accepts: bool = True) -> None:
        self.accepts, self.heard = accepts, list[tuple[str, float, float | None]]()

    def log(self, job_id: str, line: str) -> None:
        """Not noted."""

    def get(self, job_id: str) -> None:
        """No record: somebody else has the job."""

    def progress(
        self,
        job_id: str,
        token: str,
        stage: str,
        percent: float,
        left: float | None,
        stages: dict[str, float],
    ) -> bool:
        self.stages = dict(stages)
        assert (job_id, token) == ("1", "t")
        self.heard.append((stage, round(percent), left if left is None else round(left)))
        return self.accepts


def test_progress_is_told_twice_a_second_at_the_most_and_at_every_stage() -> None:
    told, times = Told(), iter([0.0, 0.1, 0.6, 10.0, 10.1])
    recipe = parse_recipe({"flops": 0.5, "evaluation": {"samples": 0}})
    reporter = Execution(cast("JobRecords", told), "1", "t", recipe, lambda: next(times))

    for stage, share in (("calibrate", 0.0), ("calibrate", 0.1), ("calibrate", 0.2)):
        reporter(cast("Stage", stage), share)
    reporter("calibrate", 1.0)
    reporter("score", 0.0)

    assert [stage for stage, *_ in told.heard] == ["calibrate"] * 3 + ["score"]
    assert told.heard[0] == ("calibrate", 0, None)
    assert told.heard[-1] == ("score", 32, 21)
    assert told.stages == {"calibrate": 10.1}


def test_a_job_that_lost_its_token_is_stopped() -> None:
    reporter = Execution(
        cast("JobRecords", Told(accepts=False)), "1", "t", parse_recipe({"flops": 0.5})
    )
    with pytest.raises(Superseded):
        reporter("calibrate", 0.0)


def record(status: JobStatus, **changes: Any) -> JobRecord:
    fields = {"id": "1", "model": "m", "name": "n", "recipe": {}, "created": 100.0}
    return JobRecord.model_validate({**fields, "status": status, **changes})


@pytest.mark.parametrize("status", ["finished", "failed", "cancelled"])
def test_a_job_that_is_over_is_never_abandoned(status: JobStatus) -> None:
    assert not is_abandoned(record(status), RqStatus.FAILED, 1e9, 1e9)


@pytest.mark.parametrize(
    ("rq_status", "seen_s", "silent_s", "abandoned"),
    [
        (RqStatus.STARTED, 1e6, 0.0, False),
        (RqStatus.STARTED, GRACE_S - 1, 1e6, False),
        (RqStatus.STARTED, GRACE_S + 1, SILENT_S - 1, False),
        (RqStatus.STARTED, GRACE_S + 1, SILENT_S + 1, True),
        (RqStatus.FAILED, 1, 0.0, True),
        (RqStatus.STOPPED, 1, 0.0, True),
        (RqStatus.FINISHED, 1, 0.0, True),
        (None, 1e6, 0.0, False),
    ],
)
def test_a_running_job_is_abandoned_once_its_process_or_its_runner_is_dead(
    rq_status: RqStatus | None, seen_s: float, silent_s: float, abandoned: bool
) -> None:
    assert is_abandoned(record("running"), rq_status, seen_s, silent_s) == abandoned


def test_a_job_that_the_queue_forgot_is_abandoned_after_a_grace() -> None:
    queued = record("queued")
    assert not is_abandoned(queued, None, GRACE_S - 1, 0.0)
    assert is_abandoned(queued, None, GRACE_S + 1, 0.0)
    assert not is_abandoned(queued, RqStatus.QUEUED, 1e9, 1e9)


def test_an_event_says_everything_in_one_line_of_json() -> None:
    event = event_of(record("running", percent=50.0, stage="prune", seconds_left=10.0))
    name, data, *rest = event.split("\n")
    assert (name, rest) == ("event: running", ["", ""])
    content = json.loads(data.removeprefix("data: "))
    assert (content["stage"], content["percent"], content["seconds_left"]) == ("prune", 50.0, 10.0)


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        ({"recipe": {}}, "The key 'model' is missing; the body needs model and recipe."),
        (
            {"model": "m", "recipe": {}, "nam": 1},
            "Unknown key 'nam'; known: model, recipe, name,",
        ),
        ({"model": "m", "recipe": {}, "name": "../x"}, "A name has letters, digits"),
        ({"model": "m", "recipe": {}, "name": "-x"}, "A name has letters, digits"),
        ({"model": 1, "recipe": {}}, "model: "),
        ({"model": "m", "recipe": {}, "priority": 1}, "The priority is high, normal or low."),
        ([], "The body: "),
    ],
)
def test_a_wrong_body_is_answered_with_one_sentence(body: Any, sentence: str) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        parse_compress_request(body)
    assert str(caught.value).startswith(sentence)


@given(st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", fullmatch=True))
def test_a_good_name_is_kept_and_is_one_directory(name: str) -> None:
    asked = parse_compress_request({"model": "m", "recipe": {}, "name": name})
    assert asked.name == name
    assert "/" not in name
    assert name not in {".", ".."}
