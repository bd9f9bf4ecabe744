"""How many jobs all runners together work on: places in Redis, one for each runner that may take a job.

A runner takes a place before it takes a job from the queue, so that a job that must wait keeps its turn
by priority. It renews its place while it lives; a dead runner's comes back after `PLACE_S`. Where all
places expired at once, because the store's clock was set, a runner whose job goes on may find its place
taken: then one job more is under way until it ends.
"""

from __future__ import annotations

import threading
import time

import structlog
from redis import Redis
from redis.exceptions import RedisError
from rq import Queue, SpawnWorker
from rq.job import Job

from service.settings import Settings

log = structlog.get_logger()
PLACES_KEY = "infoprune:job-places"
PLACE_S = 15.0
RENEW_EVERY_S = 3.0
WAIT_S = 1.0

# KEYS[1] runners by the end of their place; ARGV[1] the runner, [2] milliseconds of a place, [3]
# how many places there are. By Redis's own clock; an end further away than a place lasts is of a
# clock set back.
_TAKE = """
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local ends = now + ARGV[2]
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
for _, runner in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '(' .. ends, '+inf')) do
  redis.call('ZADD', KEYS[1], ends, runner)
end
if not redis.call('ZSCORE', KEYS[1], ARGV[1]) and redis.call('ZCARD', KEYS[1]) >= tonumber(ARGV[3]) then
  return 0
end
redis.call('ZADD', KEYS[1], ends, ARGV[1])
return 1
"""


class Place:
    """One runner's place."""

    def __init__(self, redis: Redis, runner: str, places: int, *, lasts_s: float = PLACE_S) -> None:
        self._redis, self._runner, self._places = redis, runner, places
        self._lasts_ms = int(1000 * lasts_s)
        self._script = redis.register_script(_TAKE)

    def take(self) -> bool:
        """Take or renew it; False while the others have all there are.

        Raises:
            RedisError: Redis is away.
        """
        arguments: list[str | int] = [self._runner, self._lasts_ms, self._places]
        return bool(self._script(keys=[PLACES_KEY], args=arguments))

    def leave(self) -> None:
        """Give it back.

        Raises:
            RedisError: Redis is away; it comes back by itself.
        """
        self._redis.zrem(PLACES_KEY, self._runner)

    def keep(self, stopped: threading.Event) -> None:
        """Renew it until the event is set."""
        while not stopped.wait(RENEW_EVERY_S):
            try:
                self.take()
            except RedisError:
                log.info("place not renewed", reason="redis is away")


class LimitedWorker(SpawnWorker):
    """RQ's worker, which takes no job before it has one of the `INFOPRUNE_JOB_LIMIT` places."""

    _place: Place | None = None

    def dequeue_job_and_maintain_ttl(
        self, timeout: int | None, max_idle_time: int | None = None
    ) -> tuple[Job, Queue] | None:
        """RQ's, once there is a place."""
        if self._place is None:
            self._place = self._begin()
        while not self._place.take():
            self.heartbeat()
            time.sleep(WAIT_S)  # SIGTERM ends it, by RQ's own handler
        return super().dequeue_job_and_maintain_ttl(timeout, max_idle_time)

    def _begin(self) -> Place:
        limit = Settings().job_limit
        assert limit is not None, "chosen only where there is one"
        place = Place(self.connection, self.name, limit)
        keeping = threading.Thread(
            target=place.keep, args=(threading.Event(),), name="place", daemon=True
        )
        keeping.start()
        return place
