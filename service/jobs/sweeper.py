"""Clean up behind jobs whose process is gone: killed, out of memory, or stopped.

RQ cleans up abandoned jobs only while a live worker does; so this runs beside it, and also looks at
what a killed process leaves on disk.
"""

from __future__ import annotations

import shutil
import threading
import time
from pathlib import Path

import structlog
from redis import Redis
from redis.exceptions import RedisError
from rq.exceptions import NoSuchJobError
from rq.job import Job, JobStatus
from rq.serializers import JSONSerializer

from service.jobs.records import FINAL, JobRecord, JobRecords

log = structlog.get_logger()

DEAD = {JobStatus.FAILED, JobStatus.STOPPED, JobStatus.CANCELED, JobStatus.FINISHED}
GRACE_S = 10.0  # between claiming or enqueueing a job and its being visible in RQ
LEFTOVER_AGE_S = 5.0


def is_abandoned(record: JobRecord, rq_status: JobStatus | None, now: float) -> bool:
    """Whether a job that is not over has nobody who works on it. Pure."""
    if record.status in FINAL:
        return False
    since = record.started or record.created
    if rq_status is None:
        return now - since > GRACE_S
    return rq_status in DEAD


def owner_of(leftover: str) -> str:
    """The model that `.NAME.work` or `.NAME.HASH.tmp` belongs to; NAME may have dots of its own."""
    if leftover.endswith(".work"):
        return leftover[1:].removesuffix(".work")
    return leftover[1:].rsplit(".", 2)[0]


class Sweeper(threading.Thread):
    """Looks every few seconds until stopped."""

    def __init__(self, redis: Redis, models_dir: Path, *, every_s: float = 2.0) -> None:
        super().__init__(name="sweeper", daemon=True)
        self._redis, self._models_dir, self._every_s = redis, models_dir, every_s
        self._records = JobRecords(redis)
        self._stopped = threading.Event()

    def run(self) -> None:
        """Sweep until `stop`; Redis may be away meanwhile."""
        while not self._stopped.wait(self._every_s):
            try:
                self.sweep()
            except RedisError:
                log.warning("sweep postponed", reason="redis is away")

    def stop(self) -> None:
        """End the thread soon."""
        self._stopped.set()

    def sweep(self) -> None:
        """One pass over all jobs and the models' directory."""
        now = time.time()
        jobs = self._records.list()
        for record in jobs:
            if is_abandoned(record, self._rq_status(record.id), now):
                log.warning("job abandoned", job=record.id)
                self._records.end(
                    record.id,
                    "failed",
                    error="The job's process ended early: it was killed or ran out of memory.",
                )
        running = {record.name for record in jobs if record.status == "running"}
        self._remove_leftovers(running, now)

    def _rq_status(self, job_id: str) -> JobStatus | None:
        try:
            job = Job.fetch(job_id, connection=self._redis, serializer=JSONSerializer)
        except NoSuchJobError:
            return None
        return job.get_status(refresh=False)

    def _remove_leftovers(self, running: set[str], now: float) -> None:
        """Remove temporary directories that no running job is writing."""
        for path in (*self._models_dir.glob(".*.tmp"), *self._models_dir.glob(".*.work")):
            name = owner_of(path.name)
            try:
                age = now - path.stat().st_mtime
            except FileNotFoundError:
                continue
            if name not in running and age > LEFTOVER_AGE_S:
                log.info("leftover removed", path=str(path))
                shutil.rmtree(path, ignore_errors=True)
