"""Look at the machine: cores, CPU flags, GPU."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess

from compressor.processor import cpu_flags, cpu_info
from service.workers.vllm_command import Machine


def this_machine() -> Machine:
    """What this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)
    cores = len(affinity(0)) if affinity else os.cpu_count() or 1
    return Machine(cores=cores, cpu_flags=cpu_flags(), has_gpu=_has_gpu())


def _has_gpu() -> bool:
    if shutil.which("nvidia-smi") is None:
        return False
    return subprocess.run(["nvidia-smi", "-L"], capture_output=True, check=False).returncode == 0


def device_name(machine: Machine) -> str:
    """What the engine computes on: the GPU's name, or the CPU's model and number of cores."""
    if machine.has_gpu:
        query = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
        found = subprocess.run(query, capture_output=True, text=True, check=False).stdout
        return found.partition("\n")[0].strip() or "GPU"
    model = cpu_info("model name", "CPU part") or platform.processor() or "CPU"
    return f"{model}, {machine.cores} cores"
