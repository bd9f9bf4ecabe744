"""Settings: the one reader of the environment. Every variable is `INFOPRUNE_<NAME>` or named below."""

from __future__ import annotations

import ipaddress
import json
import os
from functools import cached_property
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AliasChoices, Field, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from service.operator_errors import SettingsError


def is_loopback(host: str) -> bool:
    """Whether an address to bind to reaches this machine only."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _either(name: str) -> AliasChoices:
    """Read a setting as `NAME` (what `make demo NAME=` sets) or `INFOPRUNE_NAME`."""
    return AliasChoices(name.upper(), f"INFOPRUNE_{name.upper()}", name)


_OTLP = AliasChoices("INFOPRUNE_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT", "otlp_endpoint")


def _user_cache() -> Path:
    """`infoprune` in the user's cache directory, by the XDG rules."""
    given = os.environ.get("XDG_CACHE_HOME", "")
    home = Path(given) if Path(given).is_absolute() else Path.home() / ".cache"
    return home / "infoprune"


def _secret_directories() -> list[Path] | None:
    """Where settings may lie in files of their names, such as `redis_url`: mounted secrets."""
    given = os.environ.get("INFOPRUNE_SECRETS_DIR", "")
    return [Path(part) for part in given.split(os.pathsep) if part] or None


class Settings(BaseSettings):
    """What an operator can set. Times are in seconds, sizes in bytes."""

    model_config = SettingsConfigDict(
        env_prefix="INFOPRUNE_",
        frozen=True,
        extra="forbid",
        secrets_dir=_secret_directories(),
        use_attribute_docstrings=True,
    )

    host: str = "127.0.0.1"
    """The address that the gateway binds to."""
    port: Annotated[int, Field(ge=1, le=65535, validation_alias=_either("port"))] = 8080
    """The gateway's port."""
    redis_url: Annotated[str | None, Field(validation_alias=_either("redis_url"))] = None
    """Another Redis or Valkey; without one an embedded Valkey runs in `run_dir`."""
    run_dir: Path = Path("runs/service")
    """The append-only file, logs, and compressed models; the demo takes `runs/demo`."""
    auth: Literal["keys", "off"] = "keys"
    """`off` serves without API keys, and then on a loopback address only; so does `serve --no-auth`."""
    max_body_bytes: Annotated[int, Field(gt=0)] = 20 * 1024 * 1024
    """Larger request bodies get a 413."""
    max_bytes_in_flight: Annotated[int, Field(gt=0)] = 512 * 1024 * 1024
    """Request bodies and fetched images held at one time, all requests together; above it a 503."""
    max_images: Annotated[int, Field(gt=0)] = 16
    """Images of one request."""
    max_image_bytes: Annotated[int, Field(gt=0)] = 10 * 1024 * 1024
    """Of one image, encoded."""
    max_image_pixels: Annotated[int, Field(gt=0)] = 40_000_000
    """Larger images get a 400; nothing is decompressed to find out."""
    max_tokens: Annotated[int, Field(gt=0)] = 32_768
    """The largest `max_tokens` or `max_completion_tokens` of a request."""
    max_choices: Annotated[int, Field(gt=0)] = 16
    """The largest `n` or `best_of` of a request."""
    image_fetch: bool = True
    """Whether http(s) image URLs are fetched; private addresses are refused in any case."""
    image_fetch_timeout_s: Annotated[float, Field(gt=0)] = 10.0
    """For one image, redirects included."""
    image_fetch_redirects: Annotated[int, Field(ge=0)] = 3
    """Each is checked anew."""
    image_fetch_networks: tuple[str, ...] = ()
    """Networks that images may be fetched from although they are not public, a JSON list of CIDRs."""
    workers: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    """Workers elsewhere, JSON: model -> URLs; `dns+http://name:port` stands for every address."""
    workers_per_model: Annotated[int, Field(ge=1)] = 1
    """Local workers of each model."""
    worker_max_in_flight: Annotated[int, Field(gt=0)] = 256
    """Requests at one worker; more wait."""
    queue_size: Annotated[int, Field(ge=0)] = 1024
    """Requests of one model that may wait for a worker; more get a 503."""
    queue_timeout_s: Annotated[float, Field(gt=0)] = 30.0
    """How long one may wait."""
    probe_interval_s: Annotated[float, Field(gt=0)] = 1.0
    """How often a worker's `/health` is asked."""
    probe_timeout_s: Annotated[float, Field(gt=0)] = 2.0
    """A slower answer is none; two in a row and the worker is out."""
    stall_timeout_s: Annotated[float, Field(gt=0)] = 10.0
    """How long an answer that began may go without a byte before another worker is asked."""
    stream_idle_timeout_s: Annotated[float, Field(gt=0)] = 60.0
    """A stream that is silent for so long ends with an error event."""
    drain_timeout_s: Annotated[float, Field(ge=0)] = 8.0
    """How long requests may go on after SIGTERM."""
    model_roots: tuple[Path, ...] | None = None
    """Where models may lie, besides `run_dir` and those named on the command line; a JSON list, `[]` is
    nowhere else. Without it all registered models may be served if the store is the embedded one, else
    no others."""
    hub_models: tuple[str, ...] = ()
    """Models of the Hugging Face hub that may be fetched, a JSON list of `owner/name`."""
    request_timeout_s: Annotated[float, Field(gt=0)] = 300.0
    """Limit for one request; a client may ask for less with `x-request-timeout`."""
    registry_poll_s: Annotated[float, Field(gt=0)] = 0.5
    """How often the gateway reads the registry."""
    cache_dir: Path = Field(default_factory=_user_cache)
    """Measured times of this machine; by default `infoprune` in `$XDG_CACHE_HOME` or `~/.cache`."""
    job_timeout_s: Annotated[int, Field(gt=0)] = 24 * 3600
    """Limit for one job."""
    job_attempts: Annotated[int, Field(ge=1)] = 3
    """How often a job is started whose process was killed; it goes on where it was."""
    job_niceness: Annotated[int, Field(ge=0, le=19)] = 10
    """How far a job gives way to serving on processors that both want, as nice(1) counts; 0: not."""
    job_concurrency: Annotated[int, Field(ge=1)] = 1
    """Jobs that this machine's runner works on at a time."""
    job_limit: Annotated[int, Field(ge=1)] | None = None
    """Jobs that all machines' runners together work on at a time; by default as many as they take."""
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
    """Where compressed models are put for other machines: any fsspec URL, such as s3://bucket/models,
    which needs the extra `s3`."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """`warning` leaves out the line of each request."""
    log_format: Literal["auto", "json", "text"] = "auto"
    """`auto` is text on a terminal, else a JSON object a line."""
    otlp_endpoint: Annotated[str | None, Field(validation_alias=_OTLP)] = None
    """Where traces go, such as http://collector:4318; without it nothing is traced."""
    worker_log_requests: bool = True
    """Whether vLLM logs the id and the sampling parameters of each request, never its prompt."""
    job_backend: Literal["local", "ray"] = "local"
    """Where a job's process runs: beside the runner, or on any node of a Ray cluster."""
    ray_address: str = "auto"
    """Of the cluster's head, `HOST:PORT`; `auto` is the cluster that this machine belongs to."""
    ray_cpus: Annotated[float, Field(ge=0)] = 1.0
    """CPUs that a job asks the cluster for."""
    ray_gpus: Annotated[float, Field(ge=0)] = 0.0
    """GPUs that a job asks the cluster for."""
    ray_resources: dict[str, float] = Field(default_factory=dict)
    """Further resources that a job asks for, JSON: they choose the nodes it may run on."""
    worker_host: str = "127.0.0.1"
    """The address that local workers bind to. Workers ask for no key: never one that clients reach."""
    worker_advertise: str | None = None
    """The name by which gateways on other machines reach this machine's workers."""
    worker_start_timeout_s: Annotated[float, Field(gt=0)] = 600.0
    """A worker that takes longer is restarted."""
    worker_max_model_len: Annotated[int, Field(gt=0)] | None = None
    """vLLM's --max-model-len; by default what the model's config says."""
    worker_dtype: str = "auto"
    """vLLM's --dtype; `auto` is the checkpoint's, or float32 on a CPU without bf16 instructions."""
    worker_extra_args: tuple[str, ...] = ()
    """Further arguments of vLLM's API server, as a JSON list."""
    worker_model_args: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    """Such arguments for one model, JSON: model -> list; how many GPUs or nodes it is spread over."""

    @model_validator(mode="after")
    def _open_only_on_loopback(self) -> Self:
        if self.auth == "off" and not is_loopback(self.host):
            raise ValueError(f"without API keys the gateway binds to loopback, not to {self.host}")
        return self

    @model_validator(mode="after")
    def _reachable_where_it_is_advertised(self) -> Self:
        name = self.worker_advertise
        if name and is_loopback(self.worker_host) and not is_loopback(name):
            raise ValueError(f"workers that bind to {self.worker_host} cannot be reached as {name}")
        return self

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
