"""A job's record in Redis: our own hash, because RQ's forget results and may misjudge a job.

Every write of a running job carries the fencing token of its execution. A process that was given up
for dead and wakes again finds another token, or a final status, and can change nothing.
"""

from __future__ import annotations

import json
import time
import uuid
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict
from redis import Redis

INDEX_KEY = "infoprune:jobs"

JobStatus = Literal["queued", "running", "finished", "failed", "cancelled"]
FINAL: tuple[JobStatus, ...] = ("finished", "failed", "cancelled")

# KEYS[1] the job; ARGV[1] the token ('' = none needed), ARGV[2] JSON list of the statuses from which
# the change is allowed, ARGV[3..] field, value, ...
_UPDATE = """
local status = redis.call('HGET', KEYS[1], 'status')
if not status then return 0 end
local allowed = false
for _, s in ipairs(cjson.decode(ARGV[2])) do if s == status then allowed = true end end
if not allowed then return 0 end
if ARGV[1] ~= '' and redis.call('HGET', KEYS[1], 'token') ~= ARGV[1] then return 0 end
redis.call('HSET', KEYS[1], unpack(ARGV, 3))
return 1
"""


class JobRecord(BaseModel):
    """What is known of a job."""

    model_config = ConfigDict(extra="ignore")

    id: str
    model: str
    """Name of the original."""
    name: str
    """Name that the compressed model gets."""
    recipe: dict[str, Any]
    status: JobStatus = "queued"
    stage: str | None = None
    percent: float = 0.0
    seconds_left: float | None = None
    """At the rate so far; None where that is not known, and once the job is over."""
    error: str | None = None
    created: float
    started: float | None = None
    ended: float | None = None
    report: dict[str, Any] | None = None


class JobRecords:
    """Reads and writes job records. Synchronous."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._update = redis.register_script(_UPDATE)

    def create(self, model: str, name: str, recipe: dict[str, Any]) -> JobRecord:
        """Record a new job as queued."""
        record = JobRecord(
            id=uuid.uuid4().hex[:12], model=model, name=name, recipe=recipe, created=time.time()
        )
        pipe = self._redis.pipeline(transaction=True)
        pipe.hset(_key(record.id), mapping=_fields(record.model_dump()))
        pipe.zadd(INDEX_KEY, {record.id: record.created})
        pipe.execute()
        return record

    def get(self, job_id: str) -> JobRecord | None:
        """One job, None if there is none of that id."""
        fields = self._redis.hgetall(_key(job_id))
        return _record(fields) if fields else None

    def list(self) -> list[JobRecord]:
        """All jobs, newest first."""
        ids = [_text(i) for i in self._redis.zrevrange(INDEX_KEY, 0, -1)]
        pipe = self._redis.pipeline(transaction=False)
        for job_id in ids:
            pipe.hgetall(_key(job_id))
        return [_record(fields) for fields in pipe.execute() if fields]

    def claim(self, job_id: str) -> str | None:
        """Start an execution: its fencing token, or None where the job may not (or no more) run."""
        token = uuid.uuid4().hex
        changes = {"status": "running", "token": token, "started": time.time(), "percent": 0.0}
        done = self._change(job_id, changes, allowed=("queued", "running"))
        return token if done else None

    def progress(
        self,
        job_id: str,
        token: str,
        stage: str,
        percent: float,
        seconds_left: float | None = None,
    ) -> bool:
        """Record how far an execution is; False if it is no longer the one that may run."""
        left = None if seconds_left is None else round(seconds_left, 1)
        changes = {"stage": stage, "percent": round(percent, 1), "seconds_left": left}
        return self._change(job_id, changes, allowed=("running",), token=token)

    def end(
        self,
        job_id: str,
        status: JobStatus,
        *,
        token: str = "",
        error: str | None = None,
        report: dict[str, Any] | None = None,
    ) -> bool:
        """Give a job its final status, unless it has one; False if it had."""
        changes: dict[str, Any] = {"status": status, "ended": time.time(), "error": error}
        changes["seconds_left"] = None
        if report is not None:
            changes |= {"report": report, "percent": 100.0}
        return self._change(job_id, changes, allowed=("queued", "running"), token=token)

    def _change(
        self,
        job_id: str,
        changes: dict[str, Any],
        *,
        allowed: tuple[JobStatus, ...],
        token: str = "",
    ) -> bool:
        flat = [part for pair in _fields(changes).items() for part in pair]
        done = self._update(keys=[_key(job_id)], args=[token, json.dumps(allowed), *flat])
        return bool(done)


def _key(job_id: str) -> str:
    return f"infoprune:job:{job_id}"


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


_STRINGS = {"id", "model", "name", "status", "stage", "error", "token"}


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
