"""Runs the services of a compose file as local processes, with the commands, environments and health
checks that it names.

What a container would give them is mapped: named volumes, mounted paths and secrets are directories of
the test's own; every service has an address of its own in 127.0.0.0/8, on which its ports are as in
the file. What only an engine can enforce (images, users, read-only file systems, limits) is not.
"""

from __future__ import annotations

import os
import random
import re
import shutil
import subprocess
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from service.workers.process import GuardedProcess

_VARIABLE = re.compile(r"\$(?:\$|\{(\w+)(?::-((?:[^{}]|\{[^{}]*\})*))?\})")


def interpolated(value: Any, variables: Mapping[str, str]) -> Any:
    """The value with `$$`, `${NAME}` and `${NAME:-default}` resolved, in all its strings.

    Raises:
        KeyError: a variable has neither value nor default.
    """
    if isinstance(value, str):
        return _VARIABLE.sub(lambda found: _one(found, variables), value)
    if isinstance(value, list):
        return [interpolated(part, variables) for part in value]
    if isinstance(value, dict):
        return {key: interpolated(part, variables) for key, part in value.items()}
    return value


def _one(found: re.Match[str], variables: Mapping[str, str]) -> str:
    name, default = found.groups()
    if name is None:
        return "$"
    value = variables.get(name) or default
    if value is None:
        raise KeyError(name)
    return value


def env_file(text: str, given: Mapping[str, str]) -> dict[str, str]:
    """The variables of a `.env` file, each `${NAME}` in it resolved; what is given goes first."""
    found = dict(given)
    for line in text.splitlines():
        name, sign, value = line.partition("=")
        if sign and not line.startswith("#") and name not in given:
            found[name] = _VARIABLE.sub(lambda match: found.get(match.group(1), ""), value)
    return found


@dataclass
class LocalService:
    """One service as a local process."""

    name: str
    spec: dict[str, Any]
    address: str
    paths: dict[str, Path]
    """Where the container's paths are on this machine."""
    process: GuardedProcess | None = None

    @property
    def depends_on(self) -> dict[str, str]:
        """The services it waits for, and until when."""
        return {name: spec["condition"] for name, spec in self.spec.get("depends_on", {}).items()}


@dataclass
class LocalCompose:
    """Some services of a compose file; `up` starts them in order."""

    file: Path
    variables: Mapping[str, str]
    place: Path
    profile: str
    left_out: frozenset[str] = frozenset()
    programs: Sequence[Path] = ()
    """Directories in which commands are looked for before PATH."""
    python_path: Path = Path()
    configured: frozenset[str] = frozenset({"/etc/prometheus"})
    """Mounted configurations that name other services."""
    services: dict[str, LocalService] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._all = interpolated(yaml.safe_load(self.file.read_text()), self.variables)
        network = f"127.{random.randint(16, 250)}.{random.randint(1, 250)}"
        for number, (name, spec) in enumerate(self._all["services"].items(), start=2):
            profiles = spec.get("profiles", [self.profile])
            if self.profile in profiles and name not in self.left_out:
                paths = self._paths(name, spec)
                self.services[name] = LocalService(name, spec, f"{network}.{number}", paths)

    def _paths(self, name: str, spec: Mapping[str, Any]) -> dict[str, Path]:
        own = self.place / "containers" / name
        paths = {"/tmp": own / "tmp", "/run/secrets": own / "secrets"}
        for volume in spec.get("volumes", []):
            source, target = volume.split(":")[:2]
            if source[0] in "./":
                paths[target] = (self.file.parent / source).resolve()
            else:
                paths[target] = self.place / "volumes" / source
        for path in paths.values():
            path.mkdir(parents=True, exist_ok=True)
        return paths

    def mapped(self, service: LocalService, text: str) -> str:
        """A string of the file as it is on this machine: paths, own address, others' names."""
        others = {other.name: other.address for other in self.services.values()}
        named = rf"(?<=[@/'\"\s]){_either(others)}(?=:\d)"
        text = re.sub(named, lambda found: others[found.group()], text)
        text = re.sub(r"\b(0\.0\.0\.0|127\.0\.0\.1)\b", service.address, text)
        inside = rf"(?<![\w.\-/]){_either(service.paths)}(?![\w\-])"
        return re.sub(inside, lambda found: str(service.paths[found.group()]), text)

    def secret(self, name: str) -> Path:
        """The file on this machine that holds a secret."""
        return self.file.parent / self._all["secrets"][name]["file"]

    def hand_over(self, service: LocalService) -> None:
        """Write the secrets and configurations that the service shall find."""
        for secret in service.spec.get("secrets", []):
            value = self.secret(secret).read_text()
            (service.paths["/run/secrets"] / secret).write_text(self.mapped(service, value))
        for target in self.configured.intersection(service.paths):
            copy = self.place / "containers" / service.name / "configuration"
            shutil.copytree(service.paths[target], copy, dirs_exist_ok=True)
            for path in copy.rglob("*.yml"):
                path.write_text(self.mapped(service, path.read_text()))
            service.paths[target] = copy

    def environment(self, service: LocalService) -> dict[str, str]:
        """The service's environment: what the file says, and what any process needs."""
        home = service.paths.get("/var/cache/infoprune", service.paths["/tmp"])
        search = [*map(str, self.programs), "/usr/local/bin", "/usr/bin", "/bin"]
        given = {
            "PATH": ":".join(search), "HOME": str(home), "PYTHONPATH": str(self.python_path),
            "TMPDIR": str(service.paths["/tmp"]), "HF_HUB_OFFLINE": "1", "LANG": "C.UTF-8",
            "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1"),
        }  # fmt: skip
        said = service.spec.get("environment", {})
        hosts = {other.name: other.address for other in self.services.values()}
        values = {k: hosts.get(str(v), self.mapped(service, str(v))) for k, v in said.items()}
        return given | values

    def command(self, service: LocalService) -> list[str]:
        """The service's command, its program looked up as a container would."""
        words = [*service.spec.get("entrypoint", []), *service.spec["command"]]
        return self._found(service, [self.mapped(service, word) for word in words])

    def _found(self, service: LocalService, words: list[str]) -> list[str]:
        program = shutil.which(words[0], path=self.environment(service)["PATH"])
        assert program is not None, f"{service.name}: there is no {words[0]}"
        return [program, *words[1:]]

    def log(self, name: str) -> Path:
        """What a service wrote."""
        return self.place / "logs" / f"{name}.log"

    def start(self, name: str, *, timeout_s: float) -> None:
        """Start a service once what it depends on is as far as the file asks."""
        service = self.services[name]
        for other, condition in service.depends_on.items():
            self.wait(other, condition, timeout_s=timeout_s)
        self.hand_over(service)
        service.process = GuardedProcess(
            self.command(service),
            env=self.environment(service),
            log=self.log(name),
            grace_s=20.0,
        )

    def wait(self, name: str, condition: str, *, timeout_s: float) -> None:
        """Wait until a service has started, is healthy, or has ended well."""
        if name not in self.services:
            return  # left out
        process = self.services[name].process
        assert process is not None, f"{name} was not started yet"
        deadline = time.monotonic() + timeout_s
        while not self._is(name, process, condition):
            assert time.monotonic() < deadline, f"{name} is not {condition}: {self.tail(name)}"
            time.sleep(0.5)

    def _is(self, name: str, process: GuardedProcess, condition: str) -> bool:
        status = process.poll()
        if condition == "service_completed_successfully":
            assert status in {None, 0}, f"{name} failed: {self.tail(name)}"
            return status == 0
        assert status is None, f"{name} ended with {status}: {self.tail(name)}"
        return condition == "service_started" or self.is_healthy(name)

    def is_healthy(self, name: str) -> bool:
        """Run the health check that the file names."""
        service = self.services[name]
        kind, *words = service.spec["healthcheck"]["test"]
        words = [self.mapped(service, word) for word in words]
        words = ["sh", "-c", *words] if kind == "CMD-SHELL" else words
        done = subprocess.run(
            self._found(service, words),
            env=self.environment(service),
            capture_output=True,
            timeout=120,
            check=False,
        )
        return done.returncode == 0

    def tail(self, name: str) -> str:
        """The end of what a service wrote."""
        return "\n".join(self.log(name).read_text(errors="replace").splitlines()[-20:])

    @contextmanager
    def up(self, *, timeout_s: float) -> Iterator[None]:
        """All services, in the order of their dependencies, until the block ends."""
        try:
            for name in started_order({n: s.depends_on for n, s in self.services.items()}):
                self.start(name, timeout_s=timeout_s)
            yield
        finally:
            running = [s.process for s in self.services.values() if s.process is not None]
            for process in running:
                process.ask_to_stop()
            for process in running:
                process.stop()


def _either(names: Iterable[str]) -> str:
    """A pattern for any of the names, the longest first."""
    return f"(?:{'|'.join(re.escape(name) for name in sorted(names, key=len, reverse=True))})"


def started_order(depends_on: Mapping[str, Mapping[str, str]]) -> list[str]:
    """Names in an order in which each comes after what it depends on; unknown ones are left out."""
    order: list[str] = []

    def visit(name: str) -> None:
        if name in order or name not in depends_on:
            return
        for other in depends_on[name]:
            visit(other)
        order.append(name)

    for name in depends_on:
        visit(name)
    return order
