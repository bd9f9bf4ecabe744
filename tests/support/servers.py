"""Child processes for tests, under the guard: they end with the test, however it ends."""

from __future__ import annotations

import asyncio
import http.client
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

import uvicorn
from redis import Redis

from service.gateway.__main__ import DrainingServer
from service.gateway.app import create_app
from service.rollout.replicas import Replicas
from service.settings import Settings
from service.workers.manager import free_port
from service.workers.process import GuardedProcess
from tests.support.faulty_engine import Engine

ROOT = Path(__file__).resolve().parents[2]


def wait_until(holds: Callable[[], bool], *, timeout_s: float = 60.0) -> None:
    """Poll until a condition holds; an assertion error where it never does."""
    deadline = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)


def answers(port: int, path: str) -> bool:
    """Whether an HTTP server answers at all."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
    try:
        connection.request("GET", path)
        connection.getresponse().read()
    except OSError:
        return False
    finally:
        connection.close()
    return True


@contextmanager
def running(
    module: str, *arguments: str, log: Path, env: Mapping[str, str] | None = None
) -> Iterator[GuardedProcess]:
    """`python -m module` until the block ends."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **(env or {})}
    process = GuardedProcess([sys.executable, "-m", module, *arguments], env=environment, log=log)
    try:
        yield process
    finally:
        process.stop()


@contextmanager
def fake_openai_within(directory: Path, name: str) -> Iterator[str]:
    """URL of a fake OpenAI server that serves a model of that name until the block ends."""
    port = free_port()
    arguments = ("--port", str(port), "--name", name)
    with running("tests.support.fake_openai", *arguments, log=directory / "log"):
        wait_until(lambda: answers(port, "/v1/models"))
        yield f"http://127.0.0.1:{port}"


@contextmanager
def gateway_within(settings: Settings) -> Iterator[None]:
    """The real gateway in a thread of this process, which starts in a moment, until the block ends."""
    app = create_app(settings)
    config = uvicorn.Config(
        app, host=settings.host, port=settings.port, log_level="warning", access_log=False,
        timeout_graceful_shutdown=int(settings.drain_timeout_s) + 3,
    )  # fmt: skip
    server = DrainingServer(config, app)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        wait_until(lambda: server.started or not thread.is_alive())
        assert server.started
        yield
    finally:
        server.should_exit = True
        thread.join()


@contextmanager
def two_gateways_within(settings: Settings, redis: Redis, directory: Path) -> Iterator[str]:
    """URL of two gateway processes on one port, each knows of the other; logs in `directory`."""
    both = settings.model_copy(update={"gateway_processes": 2})
    environment = both.to_environment(both.require_redis_url())
    with ExitStack() as stack:
        for number in (1, 2):
            log = directory / f"gateway-{number}.log"
            stack.enter_context(running("service.gateway", log=log, env=environment))
        wait_until(lambda: answers(both.port, "/health"))
        wait_until(lambda: len(Replicas(redis).alive()) == 2)
        yield both.gateway_url


@contextmanager
def engine_within(*, delay_s: float = 0.02) -> Iterator[str]:
    """A faulty engine in a thread of this process; its URL."""
    loop = asyncio.new_event_loop()
    engine = Engine(delay_s)
    opening = asyncio.start_server(engine.serve, "127.0.0.1", 0, limit=2**20, backlog=2048)
    server = loop.run_until_complete(opening)
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        server.close()
        loop.run_until_complete(_end_tasks())
        loop.close()


async def _end_tasks() -> None:
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await asyncio.sleep(0.01)  # their connections close
