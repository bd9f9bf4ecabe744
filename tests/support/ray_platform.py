"""vLLM's CPU platform under a name that Ray places: what a node of Ray calls a GPU is a CPU here.

vLLM asks Ray for devices by its platform's name for them, of which CPUs have none, so that its Ray
executor does not start on a CPU. No more is changed: executor, messages and workers are vLLM's own.
"""

from __future__ import annotations

from pathlib import Path

from vllm.platforms.cpu import CpuPlatform

_ENTRY = """[vllm.platform_plugins]
cpu_on_ray = tests.support.ray_platform:name
"""


class CpuOnRay(CpuPlatform):
    """A CPU that counts as one of Ray's GPUs."""

    ray_device_key = "GPU"


def name() -> str:
    """Where the class is, as vLLM asks for it."""
    return f"{__name__}.{CpuOnRay.__name__}"


def install(directory: Path) -> None:
    """Make it vLLM's platform in processes that have the directory on their PYTHONPATH."""
    package = directory / "cpu_on_ray-1.dist-info"
    package.mkdir()
    (package / "METADATA").write_text("Metadata-Version: 2.1\nName: cpu-on-ray\nVersion: 1\n")
    (package / "entry_points.txt").write_text(_ENTRY)
