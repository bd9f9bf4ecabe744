"""A job's record in Redis: our own hash, because RQ's forget results and may misjudge a job.

Every write of a running job carries the fencing token of its execution. A process that was given up
for dead and wakes again finds another token, or a final status, and can change nothing. While it
works it renews a key of a few seconds' life (`beat`), so that its death is seen wherever it ran.
"""

from __future__ import annotations

import hashlib
import json
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from redis import Redis

from service.errors import IdempotencyError
from service.jobs.scripts import BEAT, UPDATE
from service.registry import ALIASES_KEY, MODELS_KEY, ModelEntry

INDEX_KEY = "infoprune:jobs"
ALIVE_MS = 15_000
LOG_LINES_KEPT = 2000
DAY_S = 24 * 3600

JobStatus = Literal["queued", "running", "finished", "failed", "cancelled"]
FINAL: tuple[JobStatus, ...] = ("finished", "failed", "cancelled")
Priority = Literal["high", "normal", "low"]


class JobRecord(BaseModel):
    """What is known of a job."""

    model_config = ConfigDict(extra="ignore", use_attribute_docstrings=True)

    id: str
    model: str
    """Name of the original."""
    name: str
    """Name that the compressed model gets."""
    recipe: dict[str, Any]
    priority: Priority = "normal"
    status: JobStatus = "queued"
    stage: str | None = None
    percent: float = 0.0
    seconds_left: float | None = None
    """At the rate of this attempt; None where that is not known, and once the job is over."""
    attempt: int = 1
    """Counts from 1; a job whose process was killed is started again and goes on where it was."""
    error: str | None = None
    created: float
    queued: float | None = None
    """When it was queued for this attempt."""
    started: float | None = None
    """When this attempt began."""
    ended: float | None = None
    stages: dict[str, float] = Field(default_factory=dict)
    """Seconds spent in each stage so far, all attempts together."""
    traceparent: str | None = None
    """W3C context of the request that submitted it, where that was traced."""
    report: dict[str, Any] | None = None

    @property
    def queue_id(self) -> str:
        """The id of this attempt in RQ."""
        return self.id if self.attempt == 1 else f"{self.id}-{self.attempt}"


class JobRecords:
    """Reads and writes job records. Synchronous."""

    def __init__(self, redis: Redis, *, ttl_s: int = 30 * DAY_S) -> None:
        self._redis, self._ttl_s = redis, ttl_s
        self._update = redis.register_script(UPDATE)
        self._beat = redis.register_script(BEAT)

    def create(
        self,
        model: str,
        name: str | Callable[[], str],
        recipe: dict[str, Any],
        *,
        priority: Priority = "normal",
        key: str | None = None,
        traceparent: str | None = None,
    ) -> tuple[JobRecord, bool]:
        """Record a new job as queued.

        Args:
            model: the original.
            name: of the result, or what chooses one; asked again if models or jobs changed meanwhile.
            recipe: what to do.
            priority: which jobs go first.
            key: an idempotency key; a second job with it is the first one.
            traceparent: W3C context of the request that asks for it.

        Returns:
            The record, and whether it is new.

        Raises:
            IdempotencyError: the key was used for another request.
        """
        key_name = f"infoprune:job-key:{_digest(key)}" if key else None
        wanted = _digest(json.dumps([model, recipe, priority], sort_keys=True))

        def write(pipe: Any) -> tuple[JobRecord, bool]:
            known = json.loads(pipe.get(key_name) or "null") if key_name else None
            if known is not None and (existing := self.get(known["job"])) is not None:
                if known["request"] != wanted:
                    raise IdempotencyError(str(key))
                return existing, False
            now = time.time()
            record = JobRecord(
                id=uuid.uuid4().hex[:12], model=model, name=name if isinstance(name, str) else name(),
                recipe=recipe, priority=priority, created=now, queued=now, traceparent=traceparent,
            )  # fmt: skip
            pipe.multi()
            pipe.hset(_key(record.id), mapping=_fields(record.model_dump()))
            pipe.zadd(INDEX_KEY, {record.id: record.created})
            if key_name:
                kept = json.dumps({"job": record.id, "request": wanted})
                pipe.set(key_name, kept, ex=self._ttl_s)
            return record, True

        watched = [INDEX_KEY, MODELS_KEY, ALIASES_KEY, *([key_name] if key_name else [])]
        transaction: Any = self._redis.transaction  # its types forget value_from_callable
        made: tuple[JobRecord, bool] = transaction(write, *watched, value_from_callable=True)
        return made

    def get(self, job_id: str) -> JobRecord | None:
        """One job, None if there is none of that id."""
        fields = self._redis.hgetall(_key(job_id))
        return _record(fields) if fields else None

    def list(self) -> list[JobRecord]:
        """All jobs, newest first; those that were kept long enough are forgotten."""
        ids = [_text(i) for i in self._redis.zrevrange(INDEX_KEY, 0, -1)]
        pipe = self._redis.pipeline(transaction=False)
        for job_id in ids:
            pipe.hgetall(_key(job_id))
        found = pipe.execute()
        gone = [job_id for job_id, fields in zip(ids, found, strict=True) if not fields]
        if gone:
            self._redis.zrem(INDEX_KEY, *gone)
        return [_record(fields) for fields in found if fields]

    def claim(self, job_id: str) -> str | None:
        """Start an execution: its fencing token, or None where the job may not (or no more) run.

        A job that another execution is alive on is not claimed: two runners never do one job at once.
        """
        if self.is_alive(job_id):
            return None
        token = uuid.uuid4().hex
        changes = {"status": "running", "token": token, "started": time.time()}
        done = self._change(job_id, changes, allowed=("queued", "running"))
        if done:
            self.beat(job_id, token)
        return token if done else None

    def beat(self, job_id: str, token: str) -> bool:
        """A sign of life; False if the execution is no longer the one that may run."""
        keys = [_key(job_id), _alive(job_id)]
        return bool(self._beat(keys=keys, args=[token, ALIVE_MS]))

    def token(self, job_id: str) -> str | None:
        """The fencing token of the execution that may write, or wrote last."""
        value = self._redis.hget(_key(job_id), "token")
        return None if value is None else _text(value)

    def is_alive(self, job_id: str) -> bool:
        """Whether an execution gave a sign of life lately."""
        return bool(self._redis.exists(_alive(job_id)))

    def progress(
        self,
        job_id: str,
        token: str,
        stage: str,
        percent: float,
        seconds_left: float | None = None,
        stages: Mapping[str, float] | None = None,
    ) -> bool:
        """Record how far an execution is; False if it is no longer the one that may run."""
        left = None if seconds_left is None else round(seconds_left, 1)
        changes: dict[str, Any] = {"stage": stage, "percent": round(percent, 1)}
        changes["seconds_left"] = left
        changes |= {"stages": dict(stages)} if stages else {}
        return self._change(job_id, changes, allowed=("running",), token=token)

    def requeue(self, record: JobRecord) -> JobRecord | None:
        """Give a job whose execution died its next attempt; None where another did so already.

        What the dead execution still writes, if it was not dead, is refused from here on.
        """
        changes = {
            "status": "queued", "token": "", "queued": time.time(), "attempt": record.attempt + 1,
        }  # fmt: skip
        done = self._change(
            record.id, changes, allowed=("queued", "running"), attempt=str(record.attempt)
        )
        self._redis.delete(_alive(record.id))
        return self.get(record.id) if done else None

    def end(
        self,
        job_id: str,
        status: JobStatus,
        *,
        token: str = "",
        error: str | None = None,
        report: dict[str, Any] | None = None,
        model: ModelEntry | None = None,
        stages: Mapping[str, float] | None = None,
    ) -> bool:
        """Give a job its final status, unless it has one; False if it had.

        The model that it made is registered in the same moment, or not at all.
        """
        changes: dict[str, Any] = {"status": status, "ended": time.time(), "error": error}
        changes["seconds_left"] = None
        changes |= {"stages": dict(stages)} if stages else {}
        if report is not None:
            changes |= {"report": report, "percent": 100.0}
        done = self._change(
            job_id, changes, allowed=("queued", "running"), token=token, model=model
        )
        if done:
            self._redis.delete(_alive(job_id))
            self._redis.expire(_key(job_id), self._ttl_s)
            self._redis.expire(_log(job_id), self._ttl_s)
        return done

    def log(self, job_id: str, line: str) -> None:
        """Add a line to a job's log, which keeps the last of them."""
        pipe = self._redis.pipeline(transaction=False)
        pipe.rpush(_log(job_id), line)
        pipe.ltrim(_log(job_id), -LOG_LINES_KEPT, -1)
        pipe.expire(_log(job_id), self._ttl_s)
        pipe.execute()

    def logs(self, job_id: str, last: int) -> Sequence[str]:
        """The last lines of a job's log."""
        return [_text(line) for line in self._redis.lrange(_log(job_id), -last, -1)]

    def _change(
        self,
        job_id: str,
        changes: dict[str, Any],
        *,
        allowed: tuple[JobStatus, ...],
        token: str = "",
        attempt: str = "",
        model: ModelEntry | None = None,
    ) -> bool:
        flat = [part for pair in _fields(changes).items() for part in pair]
        made = (model.name, model.model_dump_json()) if model else ("", "")
        arguments = [token, json.dumps(allowed), attempt, *made, *flat]
        return bool(self._update(keys=[_key(job_id), MODELS_KEY], args=arguments))


def _key(job_id: str) -> str:
    return f"infoprune:job:{job_id}"


def _alive(job_id: str) -> str:
    return f"infoprune:job-alive:{job_id}"


def _log(job_id: str) -> str:
    return f"infoprune:job-log:{job_id}"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _fields(values: dict[str, Any]) -> dict[Any, Any]:
    """Strings as they are, everything else as JSON (Lua compares status and token as strings)."""
    return {k: v if isinstance(v, str) else json.dumps(v) for k, v in values.items()}


def _record(fields: dict[Any, Any]) -> JobRecord:
    values: dict[str, Any] = {}
    for key, value in fields.items():
        name, text = _text(key), _text(value)
        values[name] = text if name in _STRINGS and text != "null" else json.loads(text)
    values.pop("token", None)
    return JobRecord.model_validate(values)


_STRINGS = {"id", "model", "name", "priority", "status", "stage", "error", "token", "traceparent"}


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
