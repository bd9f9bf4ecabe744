"""The command line and environment of a vLLM worker. Pure."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass

from compressor.processor import multiplies_bf16
from service.registry import ModelEntry
from service.settings import Settings
from service.telemetry.tracing import traces_endpoint


@dataclass(frozen=True)
class Machine:
    """What of a machine the command depends on."""

    cores: int
    cpu_flags: frozenset[str]
    has_gpu: bool


def choose_dtype(setting: str, machine: Machine) -> str:
    """vLLM's --dtype. CPUs without bf16 instructions multiply bf16 some 50 times slower."""
    if setting != "auto" or machine.has_gpu or multiplies_bf16(machine.cpu_flags):
        return setting
    return "float32"


def worker_command(entry: ModelEntry, port: int, settings: Settings, machine: Machine) -> list[str]:
    """The command that serves a model on a port, by default of the loopback interface."""
    command = [
        sys.executable, "-m", "vllm.entrypoints.openai.api_server",
        "--model", entry.path, "--served-model-name", entry.name,
        "--host", settings.worker_host, "--port", str(port),
        "--dtype", choose_dtype(settings.worker_dtype, machine),
        "--disable-uvicorn-access-log",
    ]  # fmt: skip
    if not machine.has_gpu:
        # Compiling takes half a minute more than it saves in a demo's life.
        command.append("--enforce-eager")
    if settings.worker_max_model_len is not None:
        command += ["--max-model-len", str(settings.worker_max_model_len)]
    if settings.worker_log_requests:
        command.append("--enable-log-requests")
    if (traces := traces_endpoint(settings)) is not None:
        command += ["--otlp-traces-endpoint", traces]
    model_args = settings.worker_model_args.get(entry.name, ())
    return [*command, *settings.worker_extra_args, *model_args]


def worker_environment(environment: Mapping[str, str], machine: Machine) -> dict[str, str]:
    """The worker's environment: offline, no telemetry; on a CPU a small cache and no pinned cores."""
    extra = {
        "HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1",
        # As the rest of the service speaks it; vLLM's own default is gRPC.
        "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "http/protobuf", "OTEL_SERVICE_NAME": "infoprune-worker",
    }  # fmt: skip
    if not machine.has_gpu:
        extra |= {
            "VLLM_CPU_KVCACHE_SPACE": "1",
            # By default each worker would bind to the same cores but one. Unbound, and with half of
            # the cores each, two models can be compared side by side with their API servers.
            "VLLM_CPU_OMP_THREADS_BIND": "nobind",
            "OMP_NUM_THREADS": str(max(1, machine.cores // 2)),
            "OMP_WAIT_POLICY": "PASSIVE",
        }
    return {**environment, **{k: environment.get(k, v) for k, v in extra.items()}}
