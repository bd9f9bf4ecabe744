"""Install the system programs that tests drive: browser, Prometheus, a clock that can be set.

    python3 deploy/system.py [--dry-run]

By Debian's package manager, where it is at hand and this is root. Elsewhere the tests that need a
missing program say so and are skipped. Standard library only.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

APT = ("apt-get", "-o", "Acquire::Retries=2", "-o", "Acquire::http::Timeout=30", "-o",
       "DPkg::Lock::Timeout=120")  # fmt: skip
LIMIT_S = 600


@dataclass(frozen=True)
class Tool:
    """Programs that come in one package."""

    package: str
    programs: tuple[str, ...]


TOOLS = (
    Tool("prometheus", ("prometheus", "promtool")),
    Tool("chromium", ("chromium",)),
    Tool("faketime", ("faketime",)),
)


def missing(which: Callable[[str], str | None] = shutil.which) -> list[Tool]:
    """The tools of which a program is not on the path."""
    return [tool for tool in TOOLS if not all(which(program) for program in tool.programs)]


def commands(tools: Sequence[Tool]) -> list[list[str]]:
    """What installs them."""
    install = [*APT, "install", "-y", "--no-install-recommends", *(t.package for t in tools)]
    return [[*APT, "update"], install]


def install(tools: Sequence[Tool]) -> str | None:
    """Install them; returns why that was not possible, or None."""
    if shutil.which(APT[0]) is None:
        return f"there is no {APT[0]}"
    if os.geteuid() != 0:
        return "this is not root"
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    for command in commands(tools):
        try:
            done = subprocess.run(
                command, env=environment, timeout=LIMIT_S, check=False,
                stdin=subprocess.DEVNULL, capture_output=True, text=True,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            return f"{command[0]} took longer than {LIMIT_S} s"
        if done.returncode:
            last = (done.stderr.strip().splitlines() or ["no message"])[-1]
            return f"{command[0]} failed: {last}"
    return None


def main(argv: Sequence[str] | None = None) -> int:
    """Install what is missing; the exit status is 0 even if that is not possible."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--dry-run", action="store_true", help="print what would be installed")
    args = parser.parse_args(argv)
    wanted = missing()
    names = ", ".join(tool.package for tool in wanted)
    if not wanted:
        return 0
    if args.dry_run:
        print(f"would install {names}")
        return 0
    print(f"installing {names}", flush=True)
    reason = install(wanted)
    if reason is not None:
        print(f"Not installed: {names} ({reason}). Tests that need them are skipped.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
