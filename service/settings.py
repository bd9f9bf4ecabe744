"""Settings: the one reader of the environment. Every variable is `INFOPRUNE_<NAME>` or named below."""

from __future__ import annotations

import json
from functools import cached_property
from pathlib import Path
from typing import Annotated

from pydantic import AliasChoices, Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from service.errors import SettingsError


def _either(name: str) -> AliasChoices:
    """Read a setting as `NAME` (what `make demo NAME=` sets) or `INFOPRUNE_NAME`."""
    return AliasChoices(name.upper(), f"INFOPRUNE_{name.upper()}", name)


class Settings(BaseSettings):
    """What an operator can set. Times are in seconds, sizes in bytes."""

    model_config = SettingsConfigDict(env_prefix="INFOPRUNE_", frozen=True, extra="forbid")

    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=1, le=65535, validation_alias=_either("port"))] = 8080
    redis_url: Annotated[str | None, Field(validation_alias=_either("redis_url"))] = None
    """Another Redis or Valkey; without one an embedded Valkey runs in `run_dir`."""
    run_dir: Path = Path("runs/service")
    """The append-only file, logs, and compressed models."""
    max_body_bytes: Annotated[int, Field(gt=0)] = 20 * 1024 * 1024
    max_image_pixels: Annotated[int, Field(gt=0)] = 40_000_000
    request_timeout_s: Annotated[float, Field(gt=0)] = 300.0
    registry_poll_s: Annotated[float, Field(gt=0)] = 0.5
    job_timeout_s: Annotated[int, Field(gt=0)] = 24 * 3600
    job_attempts: Annotated[int, Field(ge=1)] = 3
    """How often a job is started whose process was killed."""
    job_concurrency: Annotated[int, Field(ge=1)] = 1
    """Jobs that this machine's runner works on at a time."""
    job_ttl_s: Annotated[int, Field(gt=0)] = 30 * 24 * 3600
    """How long the record and log of a job, or an evaluation, that is over are kept."""
    control_every_s: Annotated[float, Field(gt=0)] = 1.0
    """How often canaries and retiring models are looked at."""
    shadow_concurrency: Annotated[int, Field(ge=0)] = 8
    """Copies of requests that a gateway has under way; more are dropped."""
    drain_limit_s: Annotated[float, Field(gt=0)] = 600.0
    """A retiring model is stopped after this long, whatever it still answers."""
    evaluate_finished: bool = True
    """Whether a compressed model is evaluated through the gateway once it can answer."""
    evaluation_samples: Annotated[int, Field(ge=1)] = 200
    """Questions of such an evaluation."""
    evaluation_concurrency: Annotated[int, Field(ge=1)] = 2
    """Questions that an evaluation asks at a time."""
    evaluation_yields_at: Annotated[int, Field(ge=1)] = 4
    """An evaluation waits while clients have this many requests in flight."""
    api_key: Annotated[str | None, Field(repr=False)] = None
    """What the command line and evaluations show to a gateway that asks for a key."""
    gateway_processes: Annotated[int, Field(ge=1)] = 1
    """Processes of the gateway, which share its port."""
    checkpoint_store: str | None = None
    """Where compressed models are put for other machines: any fsspec URL, such as s3://bucket/models."""
    worker_start_timeout_s: Annotated[float, Field(gt=0)] = 600.0
    worker_max_model_len: Annotated[int, Field(gt=0)] | None = None
    """vLLM's --max-model-len; by default what the model's config says."""
    worker_dtype: str = "auto"
    """vLLM's --dtype; `auto` is the checkpoint's, or float32 on a CPU without bf16 instructions."""
    worker_extra_args: tuple[str, ...] = ()
    """Further arguments of vLLM's API server, as a JSON list."""

    def require_redis_url(self) -> str:
        """The store's address, for processes that the supervisor starts.

        Raises:
            SettingsError: none was given.
        """
        if self.redis_url is None:
            raise SettingsError("REDIS_URL is not set; start everything with `infoprune serve`.")
        return self.redis_url

    def to_environment(self, redis_url: str) -> dict[str, str]:
        """The variables that give a child process these settings, with the store's address."""
        values = self.model_dump(mode="json", exclude={"redis_url"}, exclude_none=True)
        found = {
            f"INFOPRUNE_{name.upper()}": v if isinstance(v, str) else json.dumps(v)
            for name, v in values.items()
        }
        # PORT and REDIS_URL go first where they are set, so they must agree.
        return found | {"PORT": str(self.port), "REDIS_URL": redis_url}

    @cached_property
    def models_dir(self) -> Path:
        """Where jobs leave compressed models."""
        return self.run_dir / "models"

    @cached_property
    def gateway_url(self) -> str:
        """Where clients on this machine reach the gateway."""
        host = "127.0.0.1" if self.host in {"0.0.0.0", "::"} else self.host  # noqa: S104
        return f"http://{host}:{self.port}"
