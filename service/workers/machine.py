"""Look at the machine: cores, CPU flags, GPU."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from service.workers.vllm_command import Machine


def this_machine() -> Machine:
    """What this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)
    cores = len(affinity(0)) if affinity else os.cpu_count() or 1
    return Machine(cores=cores, cpu_flags=_cpu_flags(), has_gpu=_has_gpu())


def _cpu_flags() -> frozenset[str]:
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return frozenset()
    lines = (line for line in text.splitlines() if line.startswith(("flags", "Features")))
    return frozenset(next(lines, "").partition(":")[2].split())


def _has_gpu() -> bool:
    if shutil.which("nvidia-smi") is None:
        return False
    return subprocess.run(["nvidia-smi", "-L"], capture_output=True, check=False).returncode == 0
