"""What fault tests share: two workers under the real manager, the real gateway, 32 clients."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
from redis import Redis

from service.registry import Flops, ModelEntry, Registry, WorkerState
from service.settings import Settings
from service.store import EmbeddedValkey
from service.workers.machine import this_machine
from service.workers.manager import WorkerManager, free_port
from service.workers.process import GuardedProcess
from service.workers.vllm_command import Machine
from tests.faults.figures import taken
from tests.faults.load import Load, trusted_workers
from tests.faults.report import table
from tests.support.servers import answers, running, wait_until

NO_FLOPS = Flops(vision=0, projector=0, prefill=0, decode_token=0, visual_tokens=0, text_tokens=0)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """The figures, after the tests."""
    if figures := taken():
        terminalreporter.section("faults")
        terminalreporter.write_line(table(figures))


def fake_command(model: ModelEntry, port: int, settings: Settings, machine: Machine) -> list[str]:
    """The faulty engine in vLLM's place."""
    del model, settings, machine
    return [sys.executable, "-m", "tests.support.faulty_engine", "--port", str(port)]


@dataclass
class Service:
    """A running service, and what a test may break of it."""

    settings: Settings
    store: EmbeddedValkey
    gateway: GuardedProcess

    def workers(self) -> list[WorkerState]:
        """The ready ones, as the registry has them."""
        with Redis.from_url(self.settings.require_redis_url()) as redis:
            found = Registry(redis).snapshot().workers
        return [worker for worker in found if worker.status == "ready"]

    def engine(self, worker: WorkerState) -> psutil.Process:
        """The engine's own process, below its guard."""
        assert worker.pid is not None
        (child,) = psutil.Process(worker.pid).children()
        return child

    def gateway_process(self) -> psutil.Process:
        """The gateway's own process."""
        (child,) = psutil.Process(self.gateway.pid).children()
        return child

    def recovered(self) -> bool:
        """Whether the gateway trusts two workers."""
        return trusted_workers(self.settings.gateway_url) == 2


@pytest.fixture
def service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Service]:
    monkeypatch.setattr("service.workers.manager.probe", lambda url, model: answers_url(url))
    with ExitStack() as stack:
        store = EmbeddedValkey(tmp_path / "valkey", log=tmp_path / "valkey.log")
        url = store.start()
        stack.callback(store.stop)
        settings = Settings(
            auth="off", port=free_port(), redis_url=url, run_dir=tmp_path / "run",
            workers_per_model=2, model_roots=(Path("/nowhere"),), probe_interval_s=0.5,
            probe_timeout_s=1.0, stall_timeout_s=1.0, request_timeout_s=60.0,
            stream_idle_timeout_s=5.0, drain_timeout_s=1.0,
        )  # fmt: skip
        registry = Registry(Redis.from_url(url))
        registry.put_model(
            ModelEntry(name="tiny", path="/nowhere", variant="original", params=1, flops=NO_FLOPS)
        )
        manager = WorkerManager(registry, settings, this_machine(), command=fake_command)
        stack.callback(manager.stop)
        stopped = threading.Event()

        def keep() -> None:
            while not stopped.wait(0.2):
                manager.tick()

        keeper = threading.Thread(target=keep)
        keeper.start()
        stack.callback(keeper.join)
        stack.callback(stopped.set)
        environment = settings.to_environment(url)
        log = tmp_path / "gateway.log"
        gateway = stack.enter_context(running("service.gateway", log=log, env=environment))
        found = Service(settings, store, gateway)
        wait_until(lambda: answers(settings.port, "/health"), timeout_s=60)
        wait_until(found.recovered, timeout_s=60)
        yield found


def answers_url(url: str) -> bool:
    """Whether something answers at a URL of this machine."""
    return answers(int(url.rpartition(":")[2]), "/health")


@pytest.fixture
def load(service: Service) -> Iterator[Load]:
    """32 clients, half of them streaming, from before the fault until after it."""
    with Load(service.settings.port) as found:
        time.sleep(1.0)
        yield found
