"""Pure parts of jobs: progress, who is abandoned, request bodies."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rq.job import JobStatus as RqStatus

from compressor.pipeline import STAGES
from service.errors import InvalidRequestError
from service.jobs.records import JobRecord, JobStatus
from service.jobs.runner import overall
from service.jobs.sweeper import GRACE_S, is_abandoned, owner_of
from service.schemas import parse_compress_request


def test_progress_runs_from_nothing_to_everything_without_a_step_back() -> None:
    steps = [overall(stage, share / 10) for stage in STAGES for share in range(11)]
    assert steps[0] == 0
    assert steps[-1] == pytest.approx(100)
    assert all(a <= b for a, b in pairwise(steps))


def record(status: JobStatus, *, started: float | None = None) -> JobRecord:
    return JobRecord(
        id="1", model="m", name="n", recipe={}, status=status, created=100.0, started=started
    )


@pytest.mark.parametrize("status", ["finished", "failed", "cancelled"])
def test_a_job_that_is_over_is_never_abandoned(status: JobStatus) -> None:
    assert not is_abandoned(record(status), RqStatus.FAILED, 1e9)


@pytest.mark.parametrize(
    ("rq_status", "abandoned"),
    [
        (RqStatus.QUEUED, False),
        (RqStatus.STARTED, False),
        (RqStatus.FAILED, True),
        (RqStatus.STOPPED, True),
        (RqStatus.FINISHED, True),
    ],
)
def test_a_running_job_is_abandoned_once_its_execution_is_over(
    rq_status: RqStatus, abandoned: bool
) -> None:
    assert is_abandoned(record("running", started=100.0), rq_status, 101.0) == abandoned


def test_a_job_that_the_queue_forgot_is_abandoned_after_a_grace() -> None:
    assert not is_abandoned(record("queued"), None, 100.0 + GRACE_S - 1)
    assert is_abandoned(record("queued"), None, 100.0 + GRACE_S + 1)


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        ({"recipe": {}}, "The key 'model' is missing; the body needs model and recipe."),
        ({"model": "m", "recipe": {}, "nam": 1}, "Unknown key 'nam'; known: model, recipe, name."),
        ({"model": "m", "recipe": {}, "name": "../x"}, "A name has letters, digits"),
        ({"model": "m", "recipe": {}, "name": "-x"}, "A name has letters, digits"),
        ({"model": 1, "recipe": {}}, "model: "),
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


@pytest.mark.parametrize("leftover", [".tiny-flops0.5.work", ".tiny-flops0.5.1a2b3c4d.tmp"])
def test_a_leftover_belongs_to_the_model_it_is_named_after(leftover: str) -> None:
    assert owner_of(leftover) == "tiny-flops0.5"
