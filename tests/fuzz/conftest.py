"""A gateway with one fake engine, and Redis."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from service.settings import Settings
from service.store import EmbeddedValkey
from service.workers.manager import free_port
from service.workers.process import GuardedProcess
from tests.support.servers import answers, running, wait_until


@dataclass(frozen=True)
class Target:
    """What is fuzzed."""

    settings: Settings
    gateway: GuardedProcess


@pytest.fixture(scope="session")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    home = tmp_path_factory.mktemp("fuzz")
    store = EmbeddedValkey(home / "valkey", log=home / "valkey.log")
    port = free_port()
    settings = Settings(
        auth="off", port=free_port(), redis_url=store.start(), run_dir=home / "run",
        workers={"tiny": (f"http://127.0.0.1:{port}",)}, max_body_bytes=2_000_000,
        image_fetch_timeout_s=1.0, request_timeout_s=10.0,
    )  # fmt: skip
    arguments = ("--port", str(port), "--delay-s", "0")
    environment = settings.to_environment(settings.require_redis_url())
    try:
        with (
            running("tests.support.faulty_engine", *arguments, log=home / "engine.log"),
            running("service.gateway", log=home / "gateway.log", env=environment) as gateway,
        ):
            wait_until(lambda: answers(settings.port, "/health"))
            wait_until(lambda: answers(port, "/health"))
            yield Target(settings, gateway)
    finally:
        store.stop()
