"""A lease in Redis: one holder at a time, gone by itself when its holder is."""

from __future__ import annotations

from redis import Redis

from service.rollout.store import Fence

# KEYS[1] the lease; ARGV[1] the token, ARGV[2] milliseconds.
_RENEW = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return 1
"""
_RELEASE = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
return redis.call('DEL', KEYS[1])
"""


class Lease:
    """Who may act. What its holder writes should carry the fence: a holder that slept writes nothing.

    Each time it is taken it gets a new, higher token.
    """

    def __init__(self, redis: Redis, key: str, owner: str, *, ttl_s: float = 10.0) -> None:
        self._redis, self._key, self._owner = redis, key, owner
        self._ttl_ms = int(1000 * ttl_s)
        self._token: str | None = None

    def hold(self) -> Fence | None:
        """Take or renew the lease; None while another holds it.

        Raises:
            RedisError: Redis is away.
        """
        if self._token is not None:
            if self._redis.eval(_RENEW, 1, self._key, self._token, self._ttl_ms):
                return Fence(self._key, self._token)
            self._token = None
        number = self._redis.incr(f"{self._key}:counter")
        token = f"{number}:{self._owner}"
        if not self._redis.set(self._key, token, nx=True, px=self._ttl_ms):
            return None
        self._token = token
        return Fence(self._key, token)

    def release(self) -> None:
        """Let another take it at once.

        Raises:
            RedisError: Redis is away; it ends by itself.
        """
        if self._token is not None:
            self._redis.eval(_RELEASE, 1, self._key, self._token)
            self._token = None
