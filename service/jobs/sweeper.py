"""Look after jobs whose process is gone: killed, out of memory, or with its whole machine.

They are started again, and go on with what the work directory holds.

RQ cleans up abandoned jobs only while a live worker does; so this runs beside it, and also looks at
what a killed process leaves on disk.
"""

from __future__ import annotations

import shutil
import threading
import time

import structlog
from redis import Redis
from redis.exceptions import RedisError
from rq.exceptions import NoSuchJobError
from rq.job import Job, JobStatus
from rq.serializers import JSONSerializer

from compressor.leftovers import unfinished
from service.ages import Ages
from service.jobs.execution import BEAT_EVERY_S
from service.jobs.queue import enqueue
from service.jobs.records import FINAL, JobRecord, JobRecords
from service.settings import Settings

log = structlog.get_logger()

DEAD = {JobStatus.FAILED, JobStatus.STOPPED, JobStatus.CANCELED, JobStatus.FINISHED}
GRACE_S = 10.0  # between claiming or enqueueing a job and its being visible in RQ
SILENT_S = 2 * BEAT_EVERY_S
"""Signs of life that expired because the store's clock was set come again within this time."""
LEFTOVER_AGE_S = 5.0


def is_abandoned(
    record: JobRecord, rq_status: JobStatus | None, seen_s: float, silent_s: float
) -> bool:
    """Whether a job that is not over has nobody who works on it. Pure.

    Args:
        record: the job.
        rq_status: what RQ says of this attempt; RQ hears at once of a work horse that died.
        seen_s: how long the sweeper has seen it in this status, seconds.
        silent_s: how long no execution gave a sign of life; none does where the whole runner died.
    """
    if record.status in FINAL:
        return False
    if rq_status in DEAD:
        return True
    if record.status == "running":
        return silent_s > SILENT_S and seen_s > GRACE_S
    return rq_status is None and seen_s > GRACE_S


class Sweeper(threading.Thread):
    """Looks every few seconds until stopped."""

    def __init__(self, redis: Redis, settings: Settings, *, every_s: float = 2.0) -> None:
        super().__init__(name="sweeper", daemon=True)
        self._redis, self._settings, self._every_s = redis, settings, every_s
        self._records = JobRecords(redis, ttl_s=settings.job_ttl_s)
        self._ages = Ages()
        self._stopped = threading.Event()
        self._since = time.monotonic()
        """When Redis could be reached again: a sign of life needs time to come back."""

    def run(self) -> None:
        """Sweep until `stop`; Redis may be away meanwhile."""
        while not self._stopped.wait(self._every_s):
            try:
                self.sweep()
            except RedisError:
                log.warning("sweep postponed", reason="redis is away")
                self._since = time.monotonic()
            except Exception:  # the next sweep must come, whatever this one met
                log.exception("sweep failed")

    def stop(self) -> None:
        """End the thread soon."""
        self._stopped.set()

    def sweep(self) -> None:
        """One pass over all jobs and the models' directory."""
        jobs = [record for record in self._records.list() if record.status not in FINAL]
        rested = time.monotonic() - self._since > GRACE_S
        seen = [(record.id, record.attempt, record.status) for record in jobs]
        silent = []
        for record, key in zip(jobs, seen, strict=True):
            alive = not rested or self._records.is_alive(record.id)
            silent += [] if alive else [(*key, "silent")]
            silent_s = 0.0 if alive else self._ages.of((*key, "silent"))
            rq_status = self._rq_status(record.queue_id)
            if is_abandoned(record, rq_status, self._ages.of(key), silent_s):
                self._give_up(record)
        self._ages.keep([*seen, *silent])
        going_on = {record.name for record in self._records.list() if record.status not in FINAL}
        self._remove_leftovers(going_on, time.time())

    def _give_up(self, record: JobRecord) -> None:
        """Start an abandoned job again, or fail it after its last attempt."""
        attempts = self._settings.job_attempts
        if record.attempt < attempts:
            again = self._records.requeue(record)
            if again is None:
                return  # another sweeper was first
            log.warning("job starts again", job=record.id, attempt=again.attempt)
            self._records.log(record.id, f"Its process ended early; attempt {again.attempt}.")
            enqueue(self._redis, again, job_timeout_s=self._settings.job_timeout_s)
            return
        log.warning("job abandoned", job=record.id)
        times = f"{attempts} times" if attempts > 1 else "once"
        self._records.end(
            record.id,
            "failed",
            error=f"The job's process ended early, {times}: it was killed or ran out of memory.",
        )

    def _rq_status(self, job_id: str) -> JobStatus | None:
        try:
            job = Job.fetch(job_id, connection=self._redis, serializer=JSONSerializer)
        except NoSuchJobError:
            return None
        return job.get_status(refresh=False)

    def _remove_leftovers(self, going_on: set[str], now: float) -> None:
        """Remove temporary directories of jobs that are over."""
        for path, name in unfinished(self._settings.models_dir):
            try:
                age = abs(now - path.stat().st_mtime)  # the clock may have been set
            except FileNotFoundError:
                continue
            if name not in going_on and age > LEFTOVER_AGE_S:
                log.info("leftover removed", path=str(path))
                shutil.rmtree(path, ignore_errors=True)
