"""Who is measured: how each is installed (in an environment of its own, pinned) and started."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from service.keys import KeyStore
from service.settings import Settings

ENVIRONMENTS = Path("runs/bench-env")
PINNED = {"litellm": "litellm[proxy]==1.106.0", "vllm-router": "vllm-router==0.1.17"}


@dataclass(frozen=True)
class Contender:
    """A command that listens on `port`."""

    name: str
    port: int
    command: list[str]
    environment: Mapping[str, str] = field(default_factory=dict)
    key: str = "sk-bench"
    health: str = "/health"


def install(name: str) -> Path:
    """The environment's bin directory; pip is only asked where the program is not there yet.

    Raises:
        subprocess.CalledProcessError: it cannot be installed.
    """
    home = ENVIRONMENTS / name
    program = home / "bin" / name
    if not program.exists():
        subprocess.run([sys.executable, "-m", "venv", str(home)], check=True)
        subprocess.run([str(home / "bin" / "pip"), "install", "-q", PINNED[name]], check=True)
    return home / "bin"


def ours(port: int, upstream: str, settings: Settings, keys: KeyStore) -> Contender:
    """This gateway with everything on: keys, routing, limits, metrics."""
    token, _ = keys.create(
        "bench", frozenset({"inference"}), requests_per_minute=10**9, max_concurrent=10**6
    )
    changed = settings.model_copy(
        update={"port": port, "workers": {"tiny": (upstream,)}, "worker_max_in_flight": 2000}
    )
    environment = changed.to_environment(changed.require_redis_url())
    command = [sys.executable, "-m", "service.gateway"]
    return Contender("infoprune", port, command, environment, token)


def bare(port: int, upstream: str) -> Contender:
    """The bare pass-through."""
    command = [sys.executable, "-m", "bench.gateway.bare", "--port", str(port)]
    return Contender("bare ASGI + aiohttp", port, command, {"UPSTREAM": upstream})


def litellm(port: int, upstream: str, directory: Path) -> Contender:
    """The LiteLLM proxy without keys, to its advantage: its check wants a database client."""
    target = {"model": "openai/tiny", "api_base": f"{upstream}/v1", "api_key": "unused"}
    config = {
        "model_list": [{"model_name": "tiny", "litellm_params": target}],
        "litellm_settings": {"telemetry": False},
    }
    path = directory / "litellm.yaml"
    path.write_text(yaml.safe_dump(config))
    program = str(install("litellm") / "litellm")
    command = [program, "--config", str(path), "--host", "127.0.0.1", "--port", str(port),
               "--num_workers", "1"]  # fmt: skip
    environment = {"LITELLM_LOG": "ERROR", "LITELLM_LOCAL_MODEL_COST_MAP": "True",
                   "LITELLM_TELEMETRY": "False",
                   "LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY": "true"}  # fmt: skip
    # Its /health asks the engine, and takes its time.
    return Contender("litellm", port, command, environment, health="/health/liveliness")


def vllm_router(port: int, upstream: str) -> Contender:
    """vllm-router (Rust), which is given a body limit that a picture fits into."""
    program = str(install("vllm-router") / "vllm-router")
    command = [program, "--host", "127.0.0.1", "--port", str(port), "--worker-urls", upstream,
               "--policy", "round_robin"]  # fmt: skip
    return Contender("vllm-router", port, command)
