"""A vLLM process that answers measuring commands, and what its times depend on."""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import TracebackType

from compressor.errors import LatencyError
from compressor.latency.table import EngineIdentity
from compressor.work import write_text
from service.latency.protocol import Answer, Command, EngineSettings
from service.workers.machine import device_name, this_machine
from service.workers.process import GuardedProcess
from service.workers.vllm_command import choose_dtype, worker_environment

START_TIMEOUT_S = 900.0
_POLL_S = 0.05


class EngineProcess:
    """vLLM with a model, for as long as the block lasts; its log stays in `log`."""

    def __init__(
        self,
        settings: EngineSettings,
        *,
        log: Path,
        threads: int | None = None,
        kv_cache_gib: int = 1,
        waiting: Callable[[], None] = lambda: None,
    ) -> None:
        self._settings, self._log, self._waiting = settings, log, waiting
        self._environment = engine_environment(threads, kv_cache_gib)
        self._folder = tempfile.TemporaryDirectory(prefix="infoprune-latency-")
        self._process: GuardedProcess | None = None
        self._commands = 0

    def __enter__(self) -> EngineProcess:
        folder = Path(self._folder.name)
        write_text(folder / "settings.json", self._settings.model_dump_json())
        try:
            self._process = GuardedProcess(
                [sys.executable, "-m", "service.latency.child", str(folder)],
                env=self._environment,
                log=self._log,
            )
            self._await(folder / "ready", time.monotonic() + START_TIMEOUT_S)
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._process is not None:
            self._process.stop()
        self._folder.cleanup()

    def ask(self, command: Command) -> Answer:
        """Give a command and wait for what it finds.

        Raises:
            LatencyError: the process ended.
        """
        folder = Path(self._folder.name)
        number, self._commands = self._commands, self._commands + 1
        write_text(folder / f"{number}.command.json", command.model_dump_json())
        answer = folder / f"{number}.answer.json"
        self._await(answer, None)
        return Answer.model_validate_json(answer.read_text())

    def _await(self, path: Path, deadline: float | None) -> None:
        assert self._process is not None
        while not path.exists():
            if self._process.poll() is not None:
                reason = self._process.last_error() or "it gave no reason"
                raise LatencyError(f"The measuring engine ended: {reason} (see {self._log}).")
            if deadline is not None and time.monotonic() > deadline:
                raise LatencyError(
                    f"The measuring engine did not start in {START_TIMEOUT_S:g} s; see {self._log}."
                )
            self._waiting()
            time.sleep(_POLL_S)


def engine_environment(threads: int | None, kv_cache_gib: int) -> dict[str, str]:
    """The environment of a serving worker, with so many threads and so much cache on a CPU."""
    given = dict(os.environ)
    if threads is not None:
        given["OMP_NUM_THREADS"] = str(threads)
    given["VLLM_CPU_KVCACHE_SPACE"] = str(kv_cache_gib)
    return worker_environment(given, this_machine())


def engine_identity(threads: int | None = None) -> EngineIdentity:
    """What the times of this machine's serving engine depend on."""
    machine = this_machine()
    used = 0 if machine.has_gpu else int(engine_environment(threads, 1)["OMP_NUM_THREADS"])
    return EngineIdentity(
        engine=engine_name(),
        device=device_name(machine),
        dtype=choose_dtype("auto", machine),
        threads=used,
    )


def engine_name() -> str:
    """The installed distribution of vLLM and its version."""
    for name in ("vllm", "vllm-cpu"):
        try:
            return f"{name} {version(name)}"
        except PackageNotFoundError:
            continue
    return "no vLLM"
