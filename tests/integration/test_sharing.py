"""Two real gateways with one store: a key's limits hold for both together."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from service.gateway.ledger import Ledger, Use
from service.keys import KeyStore
from service.registry import Registry, WorkerState
from service.routing.rate import Rate
from service.routing.shares import STALE_S, most_in_window
from service.settings import Settings
from service.workers.manager import free_port
from tests.integration.conftest import entry
from tests.integration.test_keys import bearer
from tests.support.http import Reply, call, chat
from tests.support.servers import answers, engine_within, running, wait_until

CHAT = "/v1/chat/completions"
PER_MINUTE = 600


@pytest.fixture
def two(settings: Settings, redis: Redis, tmp_path: Path) -> Iterator[list[str]]:
    """URLs of two gateway processes with one engine that takes its time."""
    Registry(redis).put_model(entry("tiny"))

    def up(url: str) -> Callable[[], bool]:
        return lambda: answers(int(url.rpartition(":")[2]), "/health")

    with ExitStack() as stack:
        engine = stack.enter_context(engine_within(delay_s=0.0))
        Registry(redis).put_worker(WorkerState(id="w", model="tiny", url=engine, status="ready"))
        urls = []
        for number in range(2):
            one = settings.model_copy(
                update={"auth": "keys", "port": free_port(), "request_timeout_s": 60.0}
            )
            environment = one.to_environment(one.require_redis_url())
            log = tmp_path / f"gateway-{number}.log"
            stack.enter_context(running("service.gateway", log=log, env=environment))
            urls.append(one.gateway_url)
        for url in urls:
            wait_until(up(url))
        yield urls


def make_key(urls: list[str], redis: Redis, **limits: int) -> dict[str, str]:
    """A key that both gateways know; its header."""
    token, _ = KeyStore(redis).create("test", frozenset({"inference"}), **limits)
    headers = bearer(token)
    for url in urls:
        wait_until(known(url, headers))
    return headers


def known(url: str, headers: dict[str, str]) -> Callable[[], bool]:
    return lambda: call("GET", f"{url}/v1/models", headers=headers).status != 401


def ask(url: str, headers: dict[str, str], text: str = "red?", **fields: Any) -> Reply:
    return call("POST", url + CHAT, chat(text, **fields), headers, timeout_s=60)


def test_two_gateways_hold_one_rate(two: list[str], redis: Redis) -> None:
    """Both are hammered for seconds: together they let in what is promised, not twice the rate."""
    headers = make_key(two, redis, requests_per_minute=PER_MINUTE)
    time.sleep(3.0)  # what making sure of the key has spent is paid
    rate, seconds = Rate(PER_MINUTE, PER_MINUTE / 60), 6.0
    started = time.monotonic()
    good = [0, 0]

    def hammer(number: int) -> None:
        while time.monotonic() - started < seconds:
            good[number] += ask(two[number], headers).status == 200
            time.sleep(0.01)

    threads = [threading.Thread(target=hammer, args=(n % 2,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    elapsed = time.monotonic() - started
    alone = rate.burst + elapsed * PER_MINUTE / 60
    assert sum(good) <= most_in_window(rate, 2, elapsed, heard_s=0.5)
    assert sum(good) < 1.6 * alone, "each for itself they would let in twice as much"
    assert sum(good) > 0.5 * alone, "the rate can be had"
    assert min(good) > 0


def test_two_gateways_hold_one_limit_of_requests_under_way(two: list[str], redis: Redis) -> None:
    headers = make_key(two, redis, max_concurrent=4)
    with ThreadPoolExecutor(8) as pool:
        held: list[Future[Reply]] = [
            pool.submit(ask, two[0], headers, "gently", stream=True) for _ in range(4)
        ]
        # A stream lasts 4 s; the other gateway hears of them within one.
        time.sleep(1.5)
        refused = ask(two[1], headers)
        assert (refused.status, refused.json()["error"]["code"]) == (429, "rate_limit_exceeded")
        assert [one.result().status for one in held] == [200] * 4
    wait_until(lambda: ask(two[1], headers).status == 200, timeout_s=10)


def test_a_gateway_that_hears_nothing_holds_its_share(two: list[str], redis: Redis) -> None:
    headers = make_key(two, redis, max_concurrent=4)
    time.sleep(1.0)
    redis.shutdown(nosave=True)
    time.sleep(STALE_S + 1.5)
    with ThreadPoolExecutor(4) as pool:
        replies = list(pool.map(lambda _: ask(two[0], headers, "gently", stream=True), range(4)))
    assert sorted(reply.status for reply in replies) == [200, 200, 429, 429]


def test_accounts_add_up_whoever_tells_and_are_paid_by_time(redis: Redis) -> None:
    first, second = Ledger(redis, "a"), Ledger(redis, "b")
    use = Use("k", active=2, spent_s=0.5, deepest_s=9.0)
    assert first.exchange([use])[1][0].others == 0
    present, (heard,) = second.exchange([use])
    assert (present.gateways, present.keys, heard.others) == (2, frozenset("k"), 2)
    assert 0.8 < heard.ahead_s <= 1.0
    time.sleep(0.5)
    _, (heard,) = first.exchange([Use("k", active=0, spent_s=0.0, deepest_s=9.0)])
    assert 0.2 < heard.ahead_s <= 0.5
    second.leave()
    assert first.exchange([])[0].gateways == 1


def test_a_clock_that_was_set_back_locks_nobody_out(redis: Redis) -> None:
    """The account lies an hour ahead, as it does after the store's clock went back by one."""
    ahead_ms = 1000 * (time.time() + 3600)
    redis.hset("infoprune:key-use:k", mapping={"due": ahead_ms, "at:gone": f"7:{ahead_ms:.0f}"})
    _, (heard,) = Ledger(redis, "a").exchange([Use("k", active=0, spent_s=0.0, deepest_s=2.0)])
    assert heard.ahead_s == pytest.approx(2.0)
    assert heard.others == 0
