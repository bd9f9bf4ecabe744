"""The queue of compression jobs, as the gateway sees it. Synchronous: call it in a thread."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from redis import Redis
from redis.exceptions import RedisError
from rq import Queue
from rq.command import send_stop_job_command
from rq.exceptions import InvalidJobOperation, NoSuchJobError
from rq.job import Job
from rq.serializers import JSONSerializer

from service.errors import JobNotFoundError, NameTakenError, QueueUnavailableError
from service.jobs.records import DAY_S, FINAL, JobRecord, JobRecords, Priority
from service.registry import Registry

QUEUES: dict[Priority, str] = {
    "high": "infoprune-high", "normal": "infoprune", "low": "infoprune-low",
}  # fmt: skip
"""In the order in which runners look at them."""
RUNNER = "service.jobs.entry.run_job"
RESULT_TTL_S = 3600  # of RQ's own copy; ours stays


def enqueue(redis: Redis, record: JobRecord, *, job_timeout_s: int) -> None:
    """Give this attempt of a job to the runners.

    Raises:
        RedisError: Redis is away.
    """
    queue = Queue(QUEUES[record.priority], connection=redis, serializer=JSONSerializer)
    queue.enqueue(
        RUNNER,
        record.id,
        job_id=record.queue_id,
        job_timeout=job_timeout_s,
        result_ttl=RESULT_TTL_S,
        failure_ttl=RESULT_TTL_S,
    )


class JobQueue:
    """Submit, look at and cancel jobs.

    Every method raises `QueueUnavailableError` while Redis is away.
    """

    def __init__(self, redis: Redis, *, job_timeout_s: int, job_ttl_s: int = 30 * DAY_S) -> None:
        self._redis = redis
        self._records = JobRecords(redis, ttl_s=job_ttl_s)
        self._registry = Registry(redis)
        self._job_timeout_s = job_timeout_s

    def submit(
        self,
        model: str,
        recipe: dict[str, Any],
        name: str | None = None,
        *,
        priority: Priority = "normal",
        key: str | None = None,
        traceparent: str | None = None,
    ) -> JobRecord:
        """Queue a compression of `model`; without a name the compressed model gets a free one.

        Args:
            model: the original.
            recipe: what to do.
            name: of the compressed model.
            priority: jobs of a higher one go first.
            key: an idempotency key: the job that it came with first is the answer.
            traceparent: W3C context of the request, where that is traced.

        Raises:
            NameTakenError: a model, an alias or a job that is not over has that name.
            IdempotencyError: the key was used for another request.
        """
        try:
            record, new = self._records.create(
                model,
                lambda: self._free_name(model, recipe, name),
                recipe,
                priority=priority,
                key=key,
                traceparent=traceparent,
            )
            if new:
                enqueue(self._redis, record, job_timeout_s=self._job_timeout_s)
        except RedisError as error:
            raise QueueUnavailableError from error
        return record

    def name_of(self, model: str, recipe: dict[str, Any], name: str | None = None) -> str:
        """The name that the compressed model would get now.

        Raises:
            NameTakenError: a model, an alias or a job that is not over has that name.
        """
        try:
            return self._free_name(model, recipe, name)
        except RedisError as error:
            raise QueueUnavailableError from error

    def logs(self, job_id: str, last: int) -> Sequence[str]:
        """The last lines of a job's log.

        Raises:
            JobNotFoundError: there is none of that id.
        """
        self.get(job_id)
        try:
            return self._records.logs(job_id, last)
        except RedisError as error:
            raise QueueUnavailableError from error

    def list(self) -> list[JobRecord]:
        """All jobs, newest first."""
        try:
            return self._records.list()
        except RedisError as error:
            raise QueueUnavailableError from error

    def get(self, job_id: str) -> JobRecord:
        """One job.

        Raises:
            JobNotFoundError: there is none of that id.
        """
        try:
            record = self._records.get(job_id)
        except RedisError as error:
            raise QueueUnavailableError from error
        if record is None:
            raise JobNotFoundError(job_id)
        return record

    def cancel(self, job_id: str) -> JobRecord:
        """Stop a job: taken from the queue, or its process killed. A job that is over stays so.

        Raises:
            JobNotFoundError: there is none of that id.
        """
        record = self.get(job_id)
        if record.status in FINAL:
            return record
        try:
            # The record first: from here on the execution can register nothing.
            self._records.end(job_id, "cancelled")
            self._stop(record.queue_id)
        except RedisError as error:
            raise QueueUnavailableError from error
        return self.get(job_id)

    def _stop(self, job_id: str) -> None:
        try:
            job = Job.fetch(job_id, connection=self._redis, serializer=JSONSerializer)
            if job.worker_name:
                send_stop_job_command(self._redis, job_id, serializer=JSONSerializer)
            else:
                job.cancel()
        except (NoSuchJobError, InvalidJobOperation):
            return  # it ended meanwhile

    def _free_name(self, model: str, recipe: dict[str, Any], name: str | None) -> str:
        """The asked name if it is free, or `<model>-flops0.5`, `-2`, `-3`, ..."""
        snapshot = self._registry.snapshot()
        taken = {*snapshot.models, *snapshot.aliases}
        taken |= {job.name for job in self._records.list() if job.status not in FINAL}
        if name is not None:
            if name in taken:
                raise NameTakenError(name)
            return name
        target = next(
            t for t in ("flops", "params", "latency", "max_accuracy_drop") if recipe.get(t)
        )
        stem = f"{model}-{target.removeprefix('max_accuracy_')}{recipe[target]:g}"
        number = 1
        while (candidate := stem if number == 1 else f"{stem}-{number}") in taken:
            number += 1
        return candidate
