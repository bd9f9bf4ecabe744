"""Keeps workers for every registered model: starts, probes, restarts, stops."""

from __future__ import annotations

import errno
import http.client
import json
import os
import random
import socket
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import structlog
from redis.exceptions import RedisError

from service.registry import (
    ModelEntry,
    Registry,
    Snapshot,
    Usage,
    Variant,
    WorkerState,
    WorkerStatus,
    was_lost,
)
from service.settings import Settings
from service.workers.fetcher import Fetcher
from service.workers.policy import Failures
from service.workers.process import GuardedProcess
from service.workers.usage import kv_cache_used, measure, open_nvml
from service.workers.vllm_command import Machine, worker_command, worker_environment

log = structlog.get_logger()

CommandBuilder = Callable[[ModelEntry, int, Settings, Machine], list[str]]
PROBE_TIMEOUT_S = 2.0
MEASURE_EVERY_S = 5.0
_PORTS = (15000, 32768)
_PORT_DRAWS = 100


@dataclass
class _Worker:
    """One of a model's workers, through all its processes."""

    entry: ModelEntry
    number: int = 0
    id: str = field(default_factory=lambda: uuid.uuid4().hex[:8])
    process: GuardedProcess | None = None
    url: str = ""
    started: float = 0.0
    status: WorkerStatus = "starting"
    restarts: int = 0
    error: str | None = None
    usage: Usage | None = None
    measured: float = 0.0
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
        roots: Sequence[Path] = (),
        only: Variant | None = None,
    ) -> None:
        """`roots` are directories that models may lie in, besides those of the settings.

        With `only`, models of the other variant are another manager's.
        """
        self._keeper, self._only = settings.worker_advertise or "", only
        self._registry, self._settings, self._machine = registry, settings, machine
        self._command = command
        self._roots = (*roots, *(settings.model_roots or ()), settings.models_dir)
        self._fetcher = Fetcher(settings)
        self._gpu = open_nvml() if machine.has_gpu else None
        self._workers: dict[tuple[str, int], _Worker] = {}
        self._leaving: list[tuple[float, _Worker]] = []
        self._models: dict[str, ModelEntry] = {}
        self._known = Snapshot()

    def forget_stale(self) -> None:
        """Remove the workers that an earlier run left in the registry; those of others stay."""
        for state in self._registry.snapshot().workers:
            if state.managed and state.keeper == self._keeper:
                self._registry.remove_worker(state.id)

    def tick(self) -> None:
        """One step."""
        self._read()
        wanted = {
            (entry.name, number): entry
            for entry in self._models.values()
            if self._is_ours(entry)
            for number in range(self._settings.workers_per_model)
        }
        for key in [key for key in self._workers if key not in wanted]:
            self._retire(self._workers.pop(key))
        self._stop_leaving()
        for key, entry in wanted.items():
            worker = self._workers.setdefault(key, _Worker(entry, key[1]))
            self._step(worker, entry)

    def _read(self) -> None:
        """What shall be served; as it was while Redis is away, or came back without its data."""
        try:
            read = self._registry.snapshot()
        except RedisError:
            log.warning("workers unchanged", reason="redis is away")
            return
        if was_lost(self._known, read):
            log.warning("workers unchanged", reason="redis lost its data; a gateway restores it")
            return
        self._known = read
        self._models = self._fetcher.here(read.served_models)

    def stop(self) -> None:
        """Stop all workers, at the same time."""
        workers = [*self._workers.values(), *(worker for _, worker in self._leaving)]
        running = [w.process for w in workers if w.process is not None]
        for process in running:
            process.ask_to_stop()
        for process in running:
            process.stop()
        for worker in self._workers.values():
            self._report(worker, "stopped")

    def all_ready(self) -> bool:
        """Whether every model that it shall serve can be asked; also where it has none."""
        return all(worker.status == "ready" for worker in self._workers.values())

    def _is_ours(self, entry: ModelEntry) -> bool:
        known_here = bool(entry.path) and entry.name not in self._settings.workers
        return known_here and self._only in {None, entry.variant}

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
        elif now - worker.measured >= MEASURE_EVERY_S:
            worker.measured = now
            found = measure(worker.process.pid, self._gpu)
            held = {"kv_cache_used": kv_cache_used(worker.url)} if found else {}
            worker.usage = found and found.model_copy(update=held)
            self._report(worker, worker.status)

    def _may_load(self) -> bool:
        """On few cores one engine starts at a time: two would each take more than twice as long."""
        starting = [w for w in self._workers.values() if w.process and w.status == "starting"]
        return self._machine.cores > 2 or not starting

    def _start(self, worker: _Worker, now: float) -> None:
        if not allowed_path(worker.entry.path, self._roots):
            self._refuse(worker, now, f"{worker.entry.path} lies in none of INFOPRUNE_MODEL_ROOTS.")
            return
        if Path("/") in self._roots and not Path(worker.entry.path).is_dir():  # of an earlier run
            self._refuse(worker, now, f"{worker.entry.path} is gone; `infoprune models retire` it.")
            return
        host = self._settings.worker_host
        port = free_port(host)
        worker.url, worker.started = f"http://{self._keeper or host}:{port}", now
        name = worker.entry.name + (f"-{worker.number}" if worker.number else "")
        log_path = self._settings.run_dir / "logs" / f"worker-{name}.log"
        worker.process = GuardedProcess(
            self._command(worker.entry, port, self._settings, self._machine),
            env=worker_environment(os.environ, self._machine),
            log=log_path,
        )
        self._report(worker, "starting")
        log.info("worker starts", model=worker.entry.name, log=str(log_path))

    def _refuse(self, worker: _Worker, now: float, reason: str) -> None:
        worker.failures = worker.failures.after(now, 0.0)
        worker.error = reason
        self._report(worker, "backoff")
        log.warning("worker not started", model=worker.entry.name, error=reason)

    def _failed(self, worker: _Worker, now: float, reason: str) -> None:
        assert worker.process is not None
        detail = worker.process.last_error()
        worker.process.stop()
        worker.process, worker.usage = None, None
        worker.restarts += 1
        worker.failures = worker.failures.after(now, now - worker.started)
        worker.error = f"{reason}: {detail}" if detail else f"{reason}; see its log."
        self._report(worker, "backoff")
        log.warning("worker failed", model=worker.entry.name, error=worker.error)

    def _retire(self, worker: _Worker) -> None:
        """Take a worker off the registry, so that gateways send it nothing more.

        Its process ends later: what it has in hand has time to finish.
        """
        try:
            self._registry.remove_worker(worker.id)
        except RedisError:
            log.warning("worker not forgotten", reason="redis is away")
        self._leaving.append((time.monotonic() + self._settings.drain_timeout_s, worker))

    def _stop_leaving(self) -> None:
        now = time.monotonic()
        for _, worker in [pair for pair in self._leaving if pair[0] <= now]:
            if worker.process is not None:
                worker.process.stop()
        self._leaving = [pair for pair in self._leaving if pair[0] > now]

    def _report(self, worker: _Worker, status: WorkerStatus) -> None:
        worker.status = status
        state = WorkerState(
            id=worker.id,
            model=worker.entry.name,
            url=worker.url,
            status=status,
            keeper=self._keeper,
            pid=worker.process.pid if worker.process else None,
            restarts=worker.restarts,
            error=worker.error,
            usage=worker.usage,
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


def allowed_path(path: str, roots: Sequence[Path]) -> bool:
    """Whether a model's directory lies in one of the roots, links resolved."""
    real = Path(path).resolve()
    return any(real.is_relative_to(root.resolve()) for root in roots)


def free_port(host: str = "127.0.0.1") -> int:
    """A TCP port of an interface, by default loopback, that nobody listens on.

    It lies below the ports that Linux gives to outgoing connections (32768 and up), which could
    otherwise take it before its server listens.
    """
    draw = random.SystemRandom()
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    for port in (*(draw.randrange(*_PORTS) for _ in range(_PORT_DRAWS)), 0):
        with socket.socket(family) as listener:
            try:
                listener.bind((host, port))
            except OSError as error:
                if error.errno != errno.EADDRINUSE:
                    raise
                continue
            return int(listener.getsockname()[1])
    raise OSError(errno.EADDRINUSE, "no port is free")
