"""What a worker's processes use."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Collection
from pathlib import Path
from types import SimpleNamespace

import pytest

from service.workers.usage import GpuUse, Nvml, kv_cache_of, measure

BUSY = "x = bytearray(30 << 20); print(sum(i * i for i in range(10**6)), flush=True); input()"


def child() -> subprocess.Popen[str]:
    """A process that worked a little, holds 30 MB, and waits."""
    started = subprocess.Popen(
        [sys.executable, "-S", "-c", BUSY],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert started.stdout is not None
    started.stdout.readline()
    return started


def test_cpu_time_and_memory_of_all_processes_below_are_told() -> None:
    with child() as process:
        seen: list[int] = []

        def gpu(pids: Collection[int]) -> GpuUse:
            seen.extend(pids)
            return GpuUse(5, 0.5)

        found = measure(os.getpid(), gpu)
        process.communicate("\n")
    assert found is not None
    assert found.cpu_s > 0.01
    assert found.resident_bytes > 30 << 20
    assert process.pid in seen
    assert (found.gpu_bytes, found.gpu_busy) == (5, 0.5)


def test_where_no_process_is_there_is_nothing_to_tell() -> None:
    with subprocess.Popen([sys.executable, "-S", "-c", ""]) as process:
        process.wait()
    assert measure(process.pid) is None


def test_of_an_engines_ranks_the_fullest_kv_cache_is_told() -> None:
    recorded = Path("tests/support/vllm_0_32_0.prom").read_text()
    assert kv_cache_of(recorded) == 0.0
    rank = 'vllm:kv_cache_usage_perc{engine="%d",model_name="m"} %s\n'
    assert kv_cache_of(rank % (0, 0.25) + "other 3\n" + rank % (1, 0.5)) == 0.5
    assert kv_cache_of("other 3\n") is None


class FakeNvml:
    """A fake of `pynvml` on a machine with two GPUs."""

    class NVMLError(Exception):
        """As the library's."""

    def __init__(self, running: dict[int, list[SimpleNamespace]], *, works: bool = True) -> None:
        self._running, self._works = running, works

    def nvmlDeviceGetCount(self) -> int:  # noqa: N802 - the library's names
        if not self._works:
            raise self.NVMLError("no driver")
        return 2

    def nvmlDeviceGetHandleByIndex(self, number: int) -> int:  # noqa: N802
        return number

    def nvmlDeviceGetComputeRunningProcesses(  # noqa: N802
        self, device: int
    ) -> list[SimpleNamespace]:
        return self._running.get(device, [])

    def nvmlDeviceGetUtilizationRates(self, device: int) -> SimpleNamespace:  # noqa: N802
        return SimpleNamespace(gpu=(40, 80)[device])


def on_gpu(pid: int, memory: int | None) -> SimpleNamespace:
    return SimpleNamespace(pid=pid, usedGpuMemory=memory)


def test_gpu_memory_adds_up_and_only_gpus_in_use_count() -> None:
    running = {0: [on_gpu(7, 100), on_gpu(8, 50), on_gpu(99, 1000)], 1: [on_gpu(99, 1000)]}
    assert Nvml(FakeNvml(running))([7, 8]) == GpuUse(150, 0.4)
    both = Nvml(FakeNvml({0: [on_gpu(7, 1)], 1: [on_gpu(7, None)]}))([7])
    assert both is not None
    assert both.resident == 1
    assert both.busy == pytest.approx(0.6)


def test_where_nvml_knows_nothing_nothing_is_told() -> None:
    assert Nvml(FakeNvml({0: [on_gpu(99, 1000)]}))([7]) is None
    assert Nvml(FakeNvml({}, works=False))([7]) is None
