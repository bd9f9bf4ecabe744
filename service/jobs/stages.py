"""How long a job is at each stage: for its record, and as spans where it is traced."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from service.jobs.records import JobRecord
from service.telemetry.logs import bind

if TYPE_CHECKING:
    from service.telemetry.otel import Span, Tracing


class StageTimes:
    """Seconds by stage, this attempt's and earlier ones'. Pure but for the sum that it keeps.

    What passed before a report was the stage that it names; but a report of the share 0 opens its
    stage, and what passed before it was the stage before.
    """

    def __init__(self, earlier: Mapping[str, float] | None = None) -> None:
        self.spent = dict(earlier or {})
        self._stage: str | None = None
        self._last = 0.0

    def heard(self, stage: str, share: float, now: float) -> None:
        """A report at a time of a monotonic clock, seconds."""
        if self._stage is not None:
            during = self._stage if share == 0 else stage
            self.spent[during] = round(self.spent.get(during, 0.0) + now - self._last, 3)
        self._stage, self._last = stage, now


class JobSpans:
    """A traced job's spans: one for the attempt, and below it one for each stage."""

    def __init__(
        self, tracing: Tracing, record: JobRecord, clock_ns: Callable[[], int] = time.time_ns
    ) -> None:
        """The parent is the request that submitted the job, if that was traced too."""
        self._tracing, self._clock_ns = tracing, clock_ns
        attributes: dict[str, str | int] = {
            "infoprune.job.id": record.id,
            "infoprune.job.attempt": record.attempt,
            "infoprune.job.priority": record.priority,
            "infoprune.model": record.model,
            "infoprune.model.compressed": record.name,
        }
        carrier = {"traceparent": record.traceparent} if record.traceparent else {}
        self._span = tracing.consumer("compress", attributes, carrier)
        self._stage: str | None = None
        self._open: Span | None = None
        self._last_ns = clock_ns()
        bind(job=record.id, trace_id=tracing.trace_id(self._span))

    def heard(self, stage: str, share: float) -> None:
        """A report of the stage that the job is at; see `StageTimes` for when it began."""
        now_ns = self._clock_ns()
        if stage != self._stage:
            border_ns = now_ns if share == 0 else self._last_ns
            if self._open is not None:
                self._open.end(border_ns)
            self._stage = stage
            self._open = self._tracing.part(self._span, stage, border_ns)
        self._last_ns = now_ns

    def end(self, status: str) -> None:
        """The attempt is over; `status` is the job's, or why it was stopped."""
        if self._open is not None:
            self._open.end()
        self._span.set_attribute("infoprune.job.status", status)
        if status == "failed":
            self._tracing.fail(self._span, status)
        self._span.end()
