"""What the processor says of itself; needs neither torch nor vLLM."""

from __future__ import annotations

from pathlib import Path

_BF16_FLAGS = frozenset({"avx512_bf16", "amx_bf16", "bf16"})  # the last is ARM's


def cpu_info(*names: str) -> str:
    """The first value of /proc/cpuinfo under one of the names; empty where there is none."""
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return ""
    lines = (line for line in text.splitlines() if line.startswith(names))
    return next(lines, "").partition(":")[2].strip()


def cpu_flags() -> frozenset[str]:
    """The instruction sets, by the kernel's names for them."""
    return frozenset(cpu_info("flags", "Features").split())


def multiplies_bf16(flags: frozenset[str]) -> bool:
    """Whether there are instructions for it; without them bf16 is slower than float32."""
    return not flags.isdisjoint(_BF16_FLAGS)
