"""What all gateways know of a key's use: an account in Redis for each, and a script to exchange it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from redis import Redis

from service.routing.shares import STALE_S

GATEWAYS_KEY = "infoprune:gateways"
IN_USE_KEY = "infoprune:keys-in-use"

# Both scripts go by Redis's own clock: gateways' clocks need not agree, and may be set.
# KEYS[1] a hash of gateway -> milliseconds, KEYS[2] the keys in use by when that was last told; ARGV[1]
# the gateway, ARGV[2] milliseconds after which one is gone. Returns how many there are, and the keys.
_PRESENT = """
local t = redis.call('TIME')
local now = t[1] * 1000 + t[2] / 1000
redis.call('HSET', KEYS[1], ARGV[1], string.format('%.0f', now))
local found, count = redis.call('HGETALL', KEYS[1]), 0
for i = 1, #found, 2 do
  if math.abs(now - tonumber(found[i + 1])) > tonumber(ARGV[2]) then
    redis.call('HDEL', KEYS[1], found[i])
  else
    count = count + 1
  end
end
redis.call('PEXPIRE', KEYS[1], 10 * ARGV[2])
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', now - ARGV[2])
redis.call('ZREMRANGEBYSCORE', KEYS[2], now + ARGV[2], '+inf')
return {count, redis.call('ZRANGE', KEYS[2], 0, -1)}
"""
# KEYS[1] the key's account, KEYS[2] the keys in use; ARGV[1] the gateway, [2] milliseconds after
# which one is gone, [3] requests under way, [4] milliseconds that the new requests are worth, [5]
# the deepest debt in milliseconds, [6] the key's id.
_EXCHANGE = """
local t = redis.call('TIME')
local now = t[1] * 1000 + t[2] / 1000
local due = math.max(tonumber(redis.call('HGET', KEYS[1], 'due') or 0), now)
due = math.min(due + ARGV[4], now + ARGV[5])
local mine, others = 'at:' .. ARGV[1], 0
redis.call('HSET', KEYS[1], 'due', string.format('%.3f', due),
  mine, string.format('%d:%.0f', ARGV[3], now))
local found = redis.call('HGETALL', KEYS[1])
for i = 1, #found, 2 do
  local active, at = string.match(found[i + 1], '^(%d+):(%d+)$')
  if active and found[i] ~= mine then
    if math.abs(now - tonumber(at)) > tonumber(ARGV[2]) then
      redis.call('HDEL', KEYS[1], found[i])
    else
      others = others + tonumber(active)
    end
  end
end
redis.call('PEXPIRE', KEYS[1], math.ceil(math.max(10 * ARGV[2], due - now)))
if tonumber(ARGV[3]) + others > 0 or due > now then
  redis.call('ZADD', KEYS[2], now, ARGV[6])
end
return {string.format('%.3f', due - now), others}
"""


@dataclass(frozen=True)
class Use:
    """What one gateway tells of one key."""

    key: str
    """The key's id."""
    active: int
    """Requests under way."""
    spent_s: float
    """What it let in since it told last: requests times seconds between two at the full rate."""
    deepest_s: float
    """How far ahead of the clock the account may be."""


@dataclass(frozen=True)
class Heard:
    """What one gateway hears of one key."""

    ahead_s: float
    """How far the next request's due time at the full rate lies in the future."""
    others: int
    """Requests that the other gateways have under way."""


@dataclass(frozen=True)
class Present:
    """Who there is."""

    gateways: int
    """This one included."""
    keys: frozenset[str]
    """Ids of the keys that any of them uses."""


class Ledger:
    """One gateway's access to the accounts. Synchronous: call it in a thread."""

    def __init__(self, redis: Redis, gateway: str) -> None:
        self._redis, self._gateway = redis, gateway
        self._present = redis.register_script(_PRESENT)
        self._exchange = redis.register_script(_EXCHANGE)

    def exchange(self, uses: Sequence[Use]) -> tuple[Present, list[Heard]]:
        """Tell and hear, all keys in one round trip.

        Raises:
            RedisError: Redis is away.
        """
        stale_ms = int(1000 * STALE_S)
        pipe = self._redis.pipeline(transaction=False)
        self._present(keys=[GATEWAYS_KEY, IN_USE_KEY], args=[self._gateway, stale_ms], client=pipe)
        for use in uses:
            self._exchange(
                keys=[f"infoprune:key-use:{use.key}", IN_USE_KEY],
                args=[self._gateway, stale_ms, *_arguments(use)],
                client=pipe,
            )
        (gateways, keys), *found = pipe.execute()
        present = Present(int(gateways), frozenset(key.decode() for key in keys))
        return present, [Heard(float(ahead) / 1000, int(others)) for ahead, others in found]

    def leave(self) -> None:
        """This gateway is about to stop; one that cannot say so is forgotten soon.

        Raises:
            RedisError: Redis is away.
        """
        self._redis.hdel(GATEWAYS_KEY, self._gateway)


def _arguments(use: Use) -> tuple[int, float, float, str]:
    return use.active, 1000 * use.spent_s, 1000 * use.deepest_s, use.key
