"""The machine that figures were read on, in words."""

from __future__ import annotations

import os
import platform
from pathlib import Path


def describe() -> str:
    """Cores, processor model, what it computes in bf16, memory, and GPUs if there are any."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    flags = next((line for line in lines if line.startswith("flags")), "")
    memory_gb = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    bf16 = "with" if "avx512_bf16" in flags or "amx_bf16" in flags else "without"
    cores = len(os.sched_getaffinity(0))
    return (
        f"{cores} cores of {names[0] if names else platform.processor()}, {bf16} bf16 instructions, "
        f"{memory_gb:.0f} GB, Python {platform.python_version()}"
    )
