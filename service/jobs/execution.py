"""One execution of a job, as Redis sees it: signs of life, progress, log; Redis may be away."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, Literal

import structlog
from redis.exceptions import RedisError

from compressor.errors import Cancelled
from compressor.job import Stage
from compressor.progress import overall, seconds_left, stage_weights
from compressor.recipe import Recipe
from service.jobs.records import JobRecords, JobStatus
from service.jobs.stages import JobSpans, StageTimes
from service.registry import ModelEntry

log = structlog.get_logger()

PROGRESS_EVERY_S = 0.5
BEAT_EVERY_S = 3.0
END_TRIED_FOR_S = 900.0
"""How long a finished execution waits for Redis, to say that it has finished."""


class Superseded(Exception):  # noqa: N818 - not a fault
    """Another execution has the job now: leave its work directory and its result alone."""


class Execution:
    """Call it with a stage and the share of it that is done, as the compressor's `Progress`."""

    def __init__(
        self,
        records: JobRecords,
        job_id: str,
        token: str,
        recipe: Recipe,
        clock: Callable[[], float] = time.monotonic,
        *,
        earlier: Mapping[str, float] | None = None,
        spans: JobSpans | None = None,
    ) -> None:
        """`earlier`: seconds that former attempts spent at each stage; `spans`: where it is traced."""
        self._records, self.job_id, self._token = records, job_id, token
        self.recipe, self._weights, self._clock = recipe, stage_weights(recipe), clock
        self._times, self._spans = StageTimes(earlier), spans
        self._last: tuple[str, float] = ("", 0.0)
        self._first: tuple[float, float] | None = None  # (seconds, percent) of the first report
        self._over = threading.Event()
        self._beating = threading.Thread(target=self._beat, name="beat", daemon=True)

    def __enter__(self) -> Execution:
        self._beating.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._beating.join()

    def __call__(self, stage: Stage, share: float) -> None:
        """Record progress, at most twice a second.

        Raises:
            Cancelled: the job was cancelled.
            Superseded: another execution has the job.
        """
        now = self._clock()
        self._times.heard(stage, share, now)
        if self._spans is not None:
            self._spans.heard(stage, share)
        if stage == self._last[0] and now - self._last[1] < PROGRESS_EVERY_S:
            return
        new_stage, self._last = stage != self._last[0], (stage, now)
        try:
            if new_stage:
                self._records.log(self.job_id, f"{_time()} stage {stage}")
            percent = overall(stage, share, self._weights)
            self._first = self._first or (now, percent)
            left = seconds_left(self._first[1], percent, now - self._first[0])
            spent = self._times.spent
            if not self._records.progress(self.job_id, self._token, stage, percent, left, spent):
                raise self.refused()
        except RedisError:
            log.warning("progress not recorded", job=self.job_id, reason="redis is away")

    def note(self, line: str) -> None:
        """Add a line to the job's log, if Redis can be reached."""
        try:
            self._records.log(self.job_id, f"{_time()} {line}")
        except RedisError:
            log.warning("log line lost", job=self.job_id, line=line)

    def end(
        self,
        status: JobStatus,
        *,
        error: str | None = None,
        report: dict[str, Any] | None = None,
        model: ModelEntry | None = None,
    ) -> Literal["ended", "refused"]:
        """Give the job its final status; waits for Redis. Refused where somebody else did before."""
        deadline, wait_s = time.monotonic() + END_TRIED_FOR_S, 0.2
        while True:
            try:
                done = self._records.end(
                    self.job_id, status, token=self._token, error=error, report=report, model=model,
                    stages=self._times.spent,
                )  # fmt: skip
            except RedisError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(wait_s)
                wait_s = min(5.0, 2 * wait_s)
            else:
                return "ended" if done or self._is_ours(status) else "refused"

    def refused(self) -> Exception:
        """Why a write was refused: a cancel, or another execution."""
        record = self._records.get(self.job_id)
        cancelled = record is not None and record.status == "cancelled"
        return Cancelled() if cancelled else Superseded()

    def _is_ours(self, status: JobStatus) -> bool:
        """Whether it was this execution that ended the job, in a try whose answer did not come."""
        return self._records.token(self.job_id) == self._token and (
            (record := self._records.get(self.job_id)) is not None and record.status == status
        )

    def _beat(self) -> None:
        while True:
            try:
                self._records.beat(self.job_id, self._token)
            except RedisError:
                log.info("no sign of life", job=self.job_id, reason="redis is away")
            if self._over.wait(BEAT_EVERY_S):
                return


def _time() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
