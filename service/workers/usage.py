"""What a worker's processes use: CPU time, memory, the GPU where NVML tells, the engine's KV cache.

vLLM's own `process_*` metrics are its API server's; the engine core, which does the work, is a process
of its own.
"""

from __future__ import annotations

import http.client
from collections.abc import Callable, Collection
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import psutil
import structlog
from prometheus_client.parser import text_string_to_metric_families

from service.registry import Usage
from service.workers.guard import descendants

log = structlog.get_logger()

_KV_CACHE = "vllm:kv_cache_usage_perc"  # a share, whatever its name says
_ENGINE_TIMEOUT_S = 0.5  # the manager waits for it


@dataclass(frozen=True)
class GpuUse:
    """What some processes have of the machine's GPUs."""

    resident: int
    """Bytes of GPU memory."""
    busy: float
    """Share of time that those GPUs were busy, 0 to 1, their mean."""


GpuProbe = Callable[[Collection[int]], GpuUse | None]
"""What processes (by id) use; None where none of them is on a GPU, or nobody knows."""


class Nvml:
    """NVIDIA's management library. Where a container hides process ids it knows nothing."""

    def __init__(self, library: Any) -> None:
        """`library` is the module `pynvml`, initialised."""
        self._nvml = library

    def __call__(self, pids: Collection[int]) -> GpuUse | None:
        """Sum the memory over all GPUs that the processes are on."""
        nvml, resident, busy = self._nvml, 0, []
        try:
            for number in range(nvml.nvmlDeviceGetCount()):
                device = nvml.nvmlDeviceGetHandleByIndex(number)
                running = nvml.nvmlDeviceGetComputeRunningProcesses(device)
                ours = [process for process in running if process.pid in pids]
                if ours:
                    resident += sum(process.usedGpuMemory or 0 for process in ours)
                    busy.append(nvml.nvmlDeviceGetUtilizationRates(device).gpu / 100)
        except nvml.NVMLError as error:
            log.info("GPU not read", error=str(error))
            return None
        return GpuUse(resident, sum(busy) / len(busy)) if busy else None


def open_nvml() -> GpuProbe | None:
    """The probe, where `nvidia-ml-py` is installed and a driver answers."""
    try:
        import pynvml
    except ImportError:
        return None
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return None
    return Nvml(pynvml)


def measure(guard_pid: int, gpu: GpuProbe | None = None) -> Usage | None:
    """What the processes under a guard use now; None where there are none.

    CPU time of children that ended counts with their parent's. Memory is the sum of resident sizes, so
    that pages which processes share count more than once.
    """
    cpu_s, resident, found = 0.0, 0, []
    for pid in descendants(guard_pid):
        try:
            process = psutil.Process(pid)
            times = process.cpu_times()
            resident += process.memory_info().rss
        except psutil.Error:
            continue  # it ended just now
        cpu_s += times.user + times.system + times.children_user + times.children_system
        found.append(pid)
    if not found:
        return None
    use = gpu(found) if gpu is not None else None
    if use is None:
        return Usage(cpu_s=cpu_s, resident_bytes=resident)
    return Usage(cpu_s=cpu_s, resident_bytes=resident, gpu_bytes=use.resident, gpu_busy=use.busy)


def kv_cache_used(url: str) -> float | None:
    """The share of an engine's KV cache that requests hold, 0 to 1; None where it does not tell."""
    address = url.removeprefix("http://")
    connection = http.client.HTTPConnection(address, timeout=_ENGINE_TIMEOUT_S)
    with closing(connection):
        try:
            connection.request("GET", "/metrics")
            return kv_cache_of(connection.getresponse().read().decode())
        except (OSError, http.client.HTTPException, ValueError):
            return None


def kv_cache_of(exposition: str) -> float | None:
    """The same of an engine's metrics; of several ranks the fullest, which lets requests wait. Pure.

    Raises:
        ValueError: they are none.
    """
    lines = [line for line in exposition.splitlines() if line.startswith(_KV_CACHE)]
    families = text_string_to_metric_families("".join(f"{line}\n" for line in lines))
    return max((sample.value for each in families for sample in each.samples), default=None)
