"""Workers of one machine as a service of their own: what `infoprune workers run` does."""

from __future__ import annotations

import signal
import threading
from collections.abc import Sequence
from pathlib import Path

import structlog
from redis import Redis
from redis.exceptions import RedisError

from service.registration import register
from service.registry import ModelEntry, Registry, Variant
from service.settings import Settings
from service.workers.machine import this_machine
from service.workers.manager import CommandBuilder, WorkerManager
from service.workers.vllm_command import worker_command

log = structlog.get_logger()
TICK_S = 0.5
RETRY_S = 1.0


class Fleet:
    """Registers models, then keeps workers for what the registry says until it is told to stop."""

    def __init__(
        self,
        settings: Settings,
        entries: Sequence[ModelEntry],
        only: Variant | None = None,
        alive_file: Path | None = None,
        *,
        command: CommandBuilder = worker_command,
    ) -> None:
        """`alive_file` is touched while all of its models can be asked.

        Raises:
            SettingsError: no Redis is named.
        """
        self._entries, self._alive_file = entries, alive_file
        self._registry = Registry(Redis.from_url(settings.require_redis_url()))
        roots = [Path(entry.path) for entry in entries]
        self._manager = WorkerManager(
            self._registry, settings, this_machine(), command=command, roots=roots, only=only
        )

    def run(self, stopped: threading.Event) -> None:
        """Return once `stopped` is set and all workers have ended.

        Raises:
            ModelInUseError: another compressed model has the name of one that was given.
        """
        try:
            while not stopped.is_set() and not self._begin():
                stopped.wait(RETRY_S)
            while not stopped.is_set():
                self._tick()
                stopped.wait(TICK_S)
        finally:
            self._manager.stop()

    def _begin(self) -> bool:
        """Write to the registry; False while Redis is away, which may start after this."""
        try:
            self._manager.forget_stale()
            register(self._registry, self._entries)
        except RedisError:
            log.warning("models not registered yet", reason="redis is away")
            return False
        return True

    def _tick(self) -> None:
        try:
            self._manager.tick()
        except Exception:  # whatever it is, the workers must go on being looked after
            log.exception("look at the workers failed")
            return
        if self._alive_file is not None and self._manager.all_ready():
            self._alive_file.touch()


def stop_on_signals() -> threading.Event:
    """An event that Ctrl-C, SIGTERM and SIGHUP set."""
    stopped = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: stopped.set())
    return stopped
