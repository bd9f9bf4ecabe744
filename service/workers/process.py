"""A child process under a guard: it never outlives this process, however this one ends."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import psutil

from service.workers import guard

GRACE_S = 10.0


class GuardedProcess:
    """One child. Its output goes to a log file."""

    def __init__(
        self,
        command: Sequence[str],
        *,
        env: Mapping[str, str],
        log: Path,
        grace_s: float = GRACE_S,
    ) -> None:
        self.log = log
        self._grace_s = grace_s
        log.parent.mkdir(parents=True, exist_ok=True)
        # The guard needs neither site-packages nor the environment's Python settings.
        guarded = [sys.executable, "-S", "-E", str(Path(guard.__file__)), "--grace-s", str(grace_s)]
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                [*guarded, "--", *command],
                env=dict(env),
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """Process id of the guard."""
        return self._process.pid

    def poll(self) -> int | None:
        """Exit status, None while it runs."""
        return self._process.poll()

    def stop(self) -> int:
        """Stop it and everything that it started; returns the exit status."""
        self.ask_to_stop()
        try:
            status = self._process.wait(self._grace_s + 5.0)
        except subprocess.TimeoutExpired:
            self._process.kill()
            status = self._process.wait()
        if self._process.stdin is not None:
            self._process.stdin.close()
        return status

    def kill(self) -> None:
        """SIGKILL the child and all that it started; nothing can be tidied up."""
        children = psutil.Process(self.pid).children(recursive=True)
        for child in children:
            child.kill()
        psutil.wait_procs(children)
        self.stop()

    def ask_to_stop(self) -> None:
        """Begin to stop without waiting, so that several can end at the same time."""
        if self._process.poll() is None:
            self._process.terminate()

    def last_error(self) -> str | None:
        """The last line of the log that names an error, for a person."""
        try:
            lines = self.log.read_text(errors="replace").splitlines()[-200:]
        except OSError:
            return None
        errors = [line for line in lines if "Error" in line or "error:" in line]
        return errors[-1].strip()[-300:] if errors else None
