"""Keeps one worker for every registered model: starts, probes, restarts, stops."""

from __future__ import annotations

import http.client
import json
import os
import random
import socket
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field

import structlog
from redis.exceptions import RedisError

from service.registry import ModelEntry, Registry, WorkerState, WorkerStatus
from service.settings import Settings
from service.workers.fetcher import Fetcher
from service.workers.policy import Failures
from service.workers.process import GuardedProcess
from service.workers.vllm_command import Machine, worker_command, worker_environment

log = structlog.get_logger()

CommandBuilder = Callable[[ModelEntry, int, Settings, Machine], list[str]]
PROBE_TIMEOUT_S = 2.0


@dataclass
class _Worker:
    """One model's worker, through all its processes."""

    entry: ModelEntry
    id: str = field(default_factory=lambda: uuid.uuid4().hex[:8])
    process: GuardedProcess | None = None
    url: str = ""
    started: float = 0.0
    status: WorkerStatus = "starting"
    restarts: int = 0
    error: str | None = None
    failures: Failures = field(default_factory=Failures)
    jitter: float = field(default_factory=random.random)


class WorkerManager:
    """Call `tick` again and again; each brings processes and registry one step nearer to each other.

    While Redis is away the workers run on as they are.
    """

    def __init__(
        self,
        registry: Registry,
        settings: Settings,
        machine: Machine,
        *,
        command: CommandBuilder = worker_command,
    ) -> None:
        self._registry, self._settings, self._machine = registry, settings, machine
        self._command = command
        self._fetcher = Fetcher(settings)
        self._workers: dict[str, _Worker] = {}
        self._models: dict[str, ModelEntry] = {}

    def forget_stale(self) -> None:
        """Remove the workers that an earlier run left in the registry."""
        for state in self._registry.snapshot().workers:
            self._registry.remove_worker(state.id)

    def tick(self) -> None:
        """One step."""
        try:
            self._models = self._fetcher.here(self._registry.snapshot().served_models)
        except RedisError:
            log.warning("workers unchanged", reason="redis is away")
        for name in [name for name in self._workers if name not in self._models]:
            self._retire(self._workers.pop(name))
        for entry in self._models.values():
            worker = self._workers.setdefault(entry.name, _Worker(entry))
            self._step(worker, entry)

    def stop(self) -> None:
        """Stop all workers, at the same time."""
        running = [w.process for w in self._workers.values() if w.process is not None]
        for process in running:
            process.ask_to_stop()
        for process in running:
            process.stop()
        for worker in self._workers.values():
            self._report(worker, "stopped")

    def _step(self, worker: _Worker, entry: ModelEntry) -> None:
        now = time.monotonic()
        worker.entry = entry
        if worker.process is None:
            if worker.failures.may_start(now, worker.jitter) and self._may_load():
                self._start(worker, now)
            return
        status = worker.process.poll()
        if status is not None:
            self._failed(worker, now, f"vLLM ended with status {status}")
        elif worker.status == "starting":
            if probe(worker.url, entry.name):
                worker.error = None
                self._report(worker, "ready")
                log.info("worker ready", model=entry.name, seconds=round(now - worker.started, 1))
            elif now - worker.started > self._settings.worker_start_timeout_s:
                worker.process.stop()
                self._failed(worker, now, "vLLM did not answer in time")

    def _may_load(self) -> bool:
        """On few cores one engine starts at a time: two would each take more than twice as long."""
        starting = [w for w in self._workers.values() if w.process and w.status == "starting"]
        return self._machine.cores > 2 or not starting

    def _start(self, worker: _Worker, now: float) -> None:
        port = free_port()
        worker.url, worker.started = f"http://127.0.0.1:{port}", now
        log_path = self._settings.run_dir / "logs" / f"worker-{worker.entry.name}.log"
        worker.process = GuardedProcess(
            self._command(worker.entry, port, self._settings, self._machine),
            env=worker_environment(os.environ, self._machine),
            log=log_path,
        )
        self._report(worker, "starting")
        log.info("worker starts", model=worker.entry.name, log=str(log_path))

    def _failed(self, worker: _Worker, now: float, reason: str) -> None:
        assert worker.process is not None
        detail = worker.process.last_error()
        worker.process.stop()
        worker.process = None
        worker.restarts += 1
        worker.failures = worker.failures.after(now, now - worker.started)
        worker.error = f"{reason}: {detail}" if detail else f"{reason}; see its log."
        self._report(worker, "backoff")
        log.warning("worker failed", model=worker.entry.name, error=worker.error)

    def _retire(self, worker: _Worker) -> None:
        """Stop the worker of a model that is no longer registered."""
        if worker.process is not None:
            worker.process.stop()
        try:
            self._registry.remove_worker(worker.id)
        except RedisError:
            log.warning("worker not forgotten", reason="redis is away")

    def _report(self, worker: _Worker, status: WorkerStatus) -> None:
        worker.status = status
        state = WorkerState(
            id=worker.id,
            model=worker.entry.name,
            url=worker.url,
            status=status,
            pid=worker.process.pid if worker.process else None,
            restarts=worker.restarts,
            error=worker.error,
        )
        try:
            self._registry.put_worker(state)
        except RedisError:
            log.warning("worker state not recorded", reason="redis is away")


def probe(url: str, model: str) -> bool:
    """Whether a worker serves the model: its list of models names it."""
    connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=PROBE_TIMEOUT_S)
    try:
        connection.request("GET", "/v1/models")
        response = connection.getresponse()
        content = json.loads(response.read())
        return response.status == 200 and model in {m["id"] for m in content["data"]}
    except (OSError, http.client.HTTPException, ValueError, KeyError, TypeError):
        return False
    finally:
        connection.close()


def free_port() -> int:
    """A TCP port of the loopback interface that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
