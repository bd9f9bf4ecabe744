"""Everything on one machine: store, gateway, job runner and workers, as guarded children."""

from __future__ import annotations

import fcntl
import os
import socket
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import psutil
import structlog
from redis import Redis

from service.keys import KeyStore, write_secret
from service.operator_errors import PortInUseError, RunDirectoryInUseError
from service.registration import register
from service.registry import ModelEntry, Registry
from service.settings import Settings
from service.store import EmbeddedValkey
from service.workers.machine import this_machine
from service.workers.manager import WorkerManager
from service.workers.policy import Failures
from service.workers.process import GuardedProcess

log = structlog.get_logger()
TICK_S = 0.5


@dataclass
class _Service:
    """A child that shall always run."""

    name: str
    module: str
    process: GuardedProcess | None = None
    started: float = 0.0
    failures: Failures = field(default_factory=Failures)


def gateway_services(count: int) -> list[_Service]:
    """As many gateways as shall share the port."""
    names = ["gateway"] if count == 1 else [f"gateway-{n}" for n in range(1, count + 1)]
    return [_Service(name, "service.gateway") for name in names]


class Supervisor:
    """Starts all parts, keeps them running, and stops them in order."""

    def __init__(self, settings: Settings, models: Sequence[ModelEntry]) -> None:
        self._settings, self._models = settings, models
        self._store: EmbeddedValkey | None = None
        self._manager: WorkerManager | None = None
        self._services = [
            *gateway_services(settings.gateway_processes),
            _Service("jobs", "service.jobs"),
            _Service("evaluations", "service.evaluations"),
        ]
        self._environment: dict[str, str] = {}
        self._lock: IO[str] | None = None
        self._stopping = False
        self.first_key: Path | None = None
        """Where the key lies that was made because there was none."""
        self._turn = threading.Lock()

    def start(self) -> None:
        """Start the store, register the models, start the rest.

        Raises:
            PortInUseError: somebody listens on the gateway's port; the message says who.
            RunDirectoryInUseError: another supervisor has the run directory.
            StoreError: the embedded store did not start.
        """
        settings = self._settings
        check_port(settings.host, settings.port)
        settings.models_dir.mkdir(parents=True, exist_ok=True)
        self._lock = lock_directory(settings.run_dir)
        url = settings.redis_url
        if url is None:
            log_path = settings.run_dir / "logs" / "valkey.log"
            self._store = EmbeddedValkey(settings.run_dir / "valkey", log=log_path)
            url = self._store.start()
        # Spinning OpenMP threads of a job would slow the workers beside it several times.
        patient = {"OMP_WAIT_POLICY": "PASSIVE"}
        self._environment = {**patient, **os.environ, **settings.to_environment(url)}
        registry = Registry(Redis.from_url(url))
        register(registry, self._models)
        roots = allowed_roots(settings, self._models)
        if settings.auth == "keys":
            self._first_key(KeyStore(Redis.from_url(url)))
        self._manager = WorkerManager(registry, settings, this_machine(), roots=roots)
        self._manager.forget_stale()

    def run(self, stopped: threading.Event) -> None:
        """Keep everything running until the event is set."""
        while not stopped.is_set():
            try:
                self.tick()
            except Exception:  # whatever it is, the children must go on being looked after
                log.exception("supervisor's look at its children failed")
            stopped.wait(TICK_S)

    def tick(self) -> None:
        """One look at every child."""
        assert self._manager is not None, "start first"
        with self._turn:
            if self._stopping:
                return
            self._keep_store()
            for service in self._services:
                self._keep_running(service)
            self._manager.tick()

    def stop(self) -> None:
        """Stop the gateway first, so that nobody is served half, and the store last."""
        with self._turn:
            self._stopping = True
        for service in self._services:
            if service.process is not None:
                service.process.stop()
        if self._manager is not None:
            self._manager.stop()
        if self._store is not None:
            self._store.stop()
        if self._lock is not None:
            self._lock.close()

    def _keep_store(self) -> None:
        """A store that was killed comes back on the same port, with all that was written."""
        if self._store is not None and self._store.poll() is not None:
            log.warning("store ended", name="valkey")
            self._store.start()

    def _first_key(self, keys: KeyStore) -> None:
        """Where there is no key at all, one for the operator, in a file that only they can read."""
        if keys.list():
            return
        token, _ = keys.create("first", frozenset({"admin"}))
        self.first_key = self._settings.run_dir / "admin-key"
        write_secret(self.first_key, token)

    def _keep_running(self, service: _Service) -> None:
        now = time.monotonic()
        if service.process is not None and service.process.poll() is not None:
            log.warning("service ended", name=service.name, error=service.process.last_error())
            service.failures = service.failures.after(now, now - service.started)
            service.process = None
        if service.process is None and service.failures.may_start(now, 0.0):
            service.started = now
            service.process = GuardedProcess(
                [sys.executable, "-m", service.module],
                env=self._environment,
                log=self._settings.run_dir / "logs" / f"{service.name}.log",
                grace_s=self._settings.drain_timeout_s + 5.0,
            )


def allowed_roots(settings: Settings, models: Sequence[ModelEntry]) -> list[Path]:
    """Where the models may lie that are served, besides the settings' roots. Pure.

    The embedded store holds only what commands of its own user registered, and jobs made; a store that
    others write to may name any path.
    """
    if settings.redis_url is None and settings.model_roots is None:
        return [Path("/")]
    return [Path(entry.path) for entry in models]


def lock_directory(directory: Path) -> IO[str]:
    """An open file that holds the directory for this process until it is closed.

    Raises:
        RunDirectoryInUseError: another process holds it.
    """
    file = (directory / "lock").open("w")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        file.close()
        raise RunDirectoryInUseError(
            f"Another infoprune runs in {str(directory)!r}; stop it or set INFOPRUNE_RUN_DIR."
        ) from error
    return file


def check_port(host: str, port: int) -> None:
    """Check that a port is free.

    Raises:
        PortInUseError: names the process that has it, where that may be known.
    """
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            owner = _owner(port)
            raise PortInUseError(
                f"Port {port} is in use{f' by {owner}' if owner else ''}; choose another with PORT=."
            ) from error


def _owner(port: int) -> str | None:
    """Name and id of the process that listens on a port; None where it may not be known."""
    try:
        for connection in psutil.net_connections(kind="tcp"):
            if connection.status == psutil.CONN_LISTEN and connection.laddr[1:] == (port,):
                if connection.pid is None:
                    return None
                return f"{psutil.Process(connection.pid).name()} (pid {connection.pid})"
    except psutil.Error:
        return None
    return None
