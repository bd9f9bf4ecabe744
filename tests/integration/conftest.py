"""What integration tests share: a real Valkey, a fake engine, the real gateway."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from service.registry import Flops, ModelEntry, Registry, WorkerState
from service.settings import Settings
from service.store import EmbeddedValkey
from service.workers.manager import free_port
from tests.support.http import call
from tests.support.registry import model
from tests.support.servers import (
    engine_within,
    fake_openai_within,
    gateway_within,
    wait_until,
)

NO_FLOPS = Flops(vision=0, projector=0, prefill=0, decode_token=0, visual_tokens=0, text_tokens=0)


@pytest.fixture
def redis_url(tmp_path: Path) -> Iterator[str]:
    """A Valkey of the test's own."""
    store = EmbeddedValkey(tmp_path / "valkey", log=tmp_path / "valkey.log")
    yield store.start()
    store.stop()


@pytest.fixture
def redis(redis_url: str) -> Iterator[Redis]:
    with Redis.from_url(redis_url) as client:
        yield client


@pytest.fixture
def settings(redis_url: str, tmp_path: Path) -> Settings:
    return Settings(
        auth="off",
        port=free_port(),
        redis_url=redis_url,
        run_dir=tmp_path / "run",
        registry_poll_s=0.05,
        drain_timeout_s=0.5,
        request_timeout_s=2.0,
        max_body_bytes=100_000,
        model_roots=(Path("/nowhere"),),
    )


@pytest.fixture(scope="session")
def fake_engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URL of a fake OpenAI server that serves the model `tiny`."""
    with fake_openai_within(tmp_path_factory.mktemp("fake"), "tiny") as url:
        yield url


def entry(name: str, path: str = "/nowhere") -> ModelEntry:
    return ModelEntry(name=name, path=path, variant="original", params=1, flops=NO_FLOPS)


@pytest.fixture
def gateway(settings: Settings, redis: Redis, fake_engine: str) -> Iterator[str]:
    """URL of a gateway with two models: `tiny` is served, `asleep` has a worker that starts."""
    registry = Registry(redis)
    for name in ("tiny", "asleep"):
        registry.put_model(entry(name))
    registry.put_worker(WorkerState(id="w1", model="tiny", url=fake_engine, status="ready"))
    registry.put_worker(WorkerState(id="w2", model="asleep", url=fake_engine, status="starting"))
    with gateway_within(settings):
        yield settings.gateway_url


@pytest.fixture
def pair(gateway: str, redis: Redis, fake_engine: str) -> str:
    """The gateway, with a compressed model `small` beside `tiny`, which also has a worker."""
    registry = Registry(redis)
    registry.put_model(model("small", variant="compressed", base="tiny", plan_sha256="1"))
    registry.put_worker(WorkerState(id="w3", model="small", url=fake_engine, status="ready"))
    wait_until(lambda: call("GET", f"{gateway}/models/small").status == 200)
    return gateway


@pytest.fixture
def engines() -> Iterator[list[str]]:
    """URLs of two fake engines."""
    with engine_within() as first, engine_within() as second:
        yield [first, second]


@pytest.fixture
def changed(settings: Settings, engines: list[str]) -> Callable[..., Settings]:
    """Settings of a gateway in front of both engines, with changes."""

    def change(**changes: Any) -> Settings:
        fast = {"probe_interval_s": 0.3, "probe_timeout_s": 3.0, "stall_timeout_s": 2.0,
                "request_timeout_s": 60.0, "workers": {"tiny": engines}}  # fmt: skip
        return Settings.model_validate(settings.model_dump() | fast | changes)

    return change


@pytest.fixture
def start_gateway(changed: Callable[..., Settings]) -> Iterator[Callable[..., None]]:
    """Starts a gateway in front of both engines; settings may be changed."""
    with ExitStack() as stack:
        yield lambda **changes: stack.enter_context(gateway_within(changed(**changes)))
