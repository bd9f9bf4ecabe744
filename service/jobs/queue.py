"""The queue of compression jobs, as the gateway sees it. Synchronous: call it in a thread."""

from __future__ import annotations

from typing import Any

from redis import Redis
from redis.exceptions import RedisError
from rq import Queue
from rq.command import send_stop_job_command
from rq.exceptions import InvalidJobOperation, NoSuchJobError
from rq.job import Job
from rq.serializers import JSONSerializer

from service.errors import JobNotFoundError, NameTakenError, QueueUnavailableError
from service.jobs.records import FINAL, JobRecord, JobRecords
from service.registry import Registry

QUEUE = "infoprune"
RUNNER = "service.jobs.runner.run_job"
RESULT_TTL_S = 3600  # of RQ's own copy; ours stays


class JobQueue:
    """Submit, look at and cancel jobs.

    Every method raises `QueueUnavailableError` while Redis is away.
    """

    def __init__(self, redis: Redis, *, job_timeout_s: int) -> None:
        self._redis = redis
        self._records = JobRecords(redis)
        self._registry = Registry(redis)
        self._queue = Queue(QUEUE, connection=redis, serializer=JSONSerializer)
        self._job_timeout_s = job_timeout_s

    def submit(self, model: str, recipe: dict[str, Any], name: str | None = None) -> JobRecord:
        """Queue a compression of `model`; without a name the compressed model gets a free one.

        Raises:
            NameTakenError: a model or a job that is not over has that name.
        """
        try:
            chosen = self._free_name(model, recipe, name)
            record = self._records.create(model, chosen, recipe)
            self._queue.enqueue(
                RUNNER,
                record.id,
                job_id=record.id,
                job_timeout=self._job_timeout_s,
                result_ttl=RESULT_TTL_S,
                failure_ttl=RESULT_TTL_S,
            )
        except RedisError as error:
            raise QueueUnavailableError from error
        return record

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
            self._stop(job_id)
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
        taken = set(self._registry.snapshot().models)
        taken |= {job.name for job in self._records.list() if job.status not in FINAL}
        if name is not None:
            if name in taken:
                raise NameTakenError(name)
            return name
        stem = f"{model}-flops{recipe['flops']:g}"
        number = 1
        while (candidate := stem if number == 1 else f"{stem}-{number}") in taken:
            number += 1
        return candidate
