"""The machine that figures were read on, in words."""

from __future__ import annotations

import os
import platform
import subprocess
from pathlib import Path

import torch

from compressor.job import has_bf16
from service.workers.machine import device_name, this_machine


def _cpuinfo() -> list[str]:
    info = Path("/proc/cpuinfo")
    return info.read_text().splitlines() if info.exists() else []


def commit() -> str:
    """The checkout's commit, shortened, with `+` where files differ from it; empty outside of one."""
    described = ["git", "describe", "--always", "--exclude=*", "--dirty=+"]
    try:
        done = subprocess.run(
            described, cwd=Path(__file__).parent, capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return ""
    return done.stdout.strip()


def describe() -> str:
    """Cores, processor model, whether it computes in bf16, memory, and the GPU where there is one."""
    lines = [line for line in _cpuinfo() if line.startswith("model name")]
    names = [line.split(":", 1)[1].strip() for line in lines]
    memory_gb = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    bf16 = "with" if has_bf16(torch.device("cpu")) else "without"
    cores = len(os.sched_getaffinity(0))
    machine = this_machine()
    gpu = f", {device_name(machine)}" if machine.has_gpu else ""
    return (
        f"{cores} cores of {names[0] if names else platform.processor()}, {bf16} bf16 instructions, "
        f"{memory_gb:.0f} GB, Python {platform.python_version()}{gpu}"
    )
