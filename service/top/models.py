"""What a model did and used over the window, and its figures over its original's. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from service.failures import failed_share, is_answered, is_failed
from service.top.scrape import Between, Scrape

_REQUESTS = "infoprune_requests_total"
_LATENCY = "infoprune_request_latency_seconds"
_FIRST_TOKEN = "infoprune_time_to_first_token_seconds"  # noqa: S105 - a token of text
_PER_TOKEN = "infoprune_request_time_per_output_token_seconds"  # noqa: S105 - a token of text
_KV_CACHE = "infoprune_worker_kv_cache_utilization_ratio"
_CPU = "infoprune_worker_cpu_seconds_total"
_PROMPT_PARTS = ("vision", "projector", "prefill")


@dataclass(frozen=True)
class Accuracy:
    """As last measured, 0 to 1, with its 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class ModelRow:
    """One model over the window. None: nothing to tell it from, such as no request."""

    model: str
    variant: str
    base: str | None
    """The original of a compressed model."""
    ready: bool
    requests_per_s: float | None
    error_share: float | None
    """Of the requests that count, as `service/failures.py` defines it."""
    p50_s: float | None
    p95_s: float | None
    p99_s: float | None
    first_token_p50_s: float | None
    """Of streams."""
    first_token_p95_s: float | None
    per_token_p50_s: float | None
    """Of streams: the mean time between an answer's tokens."""
    tokens_per_s: float | None
    """Of answers."""
    in_flight: int
    waiting: int
    cores: float | None
    """In use by its local workers, engines included; the manager measures every five seconds."""
    gpus: float | None
    """In use, others' work on them included; 1: a worker's graphics cards, always busy."""
    memory_bytes: float | None
    """Resident, of the workers' processes."""
    gpu_memory_bytes: float | None
    kv_cache_used: float | None
    """Of its local worker whose KV cache is fullest, 0 to 1."""
    params: float | None
    prompt_flops: float | None
    """Of the reference request before its first token: tower, projector and prefill."""
    accuracy: Mapping[str, Accuracy]
    """By dataset."""


@dataclass(frozen=True)
class Ratios:
    """A compressed model's figures over its original's; None where either is missing or 0."""

    original: str
    compressed: str
    requests_per_s: float | None
    p50_s: float | None
    p95_s: float | None
    p99_s: float | None
    first_token_p50_s: float | None
    first_token_p95_s: float | None
    per_token_p50_s: float | None
    tokens_per_s: float | None
    cores: float | None
    gpus: float | None
    memory_bytes: float | None
    gpu_memory_bytes: float | None
    kv_cache_used: float | None
    params: float | None
    prompt_flops: float | None
    accuracy: Mapping[str, float | None]


def model_rows(between: Between, described: Iterable[Mapping[str, Any]]) -> tuple[ModelRow, ...]:
    """A row for every model.

    Args:
        between: the window's two scrapes.
        described: the models as `GET /v1/models` describes them.
    """
    models = [model for model in described if model["variant"] != "alias"]
    return tuple(_model_row(between, model) for model in models)


def _model_row(between: Between, described: Mapping[str, Any]) -> ModelRow:
    name, now = described["id"], between.last
    return ModelRow(
        model=name,
        variant=described["variant"],
        base=described["base"],
        ready=described["ready"],
        requests_per_s=between.rate(_REQUESTS, model=name),
        error_share=_error_share(between, name),
        p50_s=between.quantile(0.5, _LATENCY, model=name),
        p95_s=between.quantile(0.95, _LATENCY, model=name),
        p99_s=between.quantile(0.99, _LATENCY, model=name),
        first_token_p50_s=between.quantile(0.5, _FIRST_TOKEN, model=name),
        first_token_p95_s=between.quantile(0.95, _FIRST_TOKEN, model=name),
        per_token_p50_s=between.quantile(0.5, _PER_TOKEN, model=name),
        tokens_per_s=between.rate("infoprune_tokens_total", model=name, kind="completion"),
        in_flight=int(now.total("infoprune_in_flight_requests", model=name)),
        waiting=int(now.total("infoprune_waiting_requests", model=name)),
        cores=between.rate(_CPU, model=name) if now.series(_CPU, model=name) else None,
        gpus=_known(now, "infoprune_worker_gpu_utilization_ratio", name),
        memory_bytes=_known(now, "infoprune_worker_resident_memory_bytes", name),
        gpu_memory_bytes=_known(now, "infoprune_worker_gpu_memory_bytes", name),
        kv_cache_used=max(now.series(_KV_CACHE, model=name).values(), default=None),
        params=_known(now, "infoprune_model_parameters", name),
        prompt_flops=_prompt_flops(now, name),
        accuracy=_accuracy(now, name),
    )


def _error_share(between: Between, model: str) -> float | None:
    statuses = {dict(key)["status"] for key in between.last.series(_REQUESTS, model=model)}
    by_status = {s: between.increase(_REQUESTS, model=model, status=s) for s in statuses}
    failed = sum(count for status, count in by_status.items() if is_failed(status))
    answered = sum(count for status, count in by_status.items() if is_answered(status))
    return failed_share(failed, answered)


def _known(now: Scrape, gauge: str, model: str) -> float | None:
    """The sum of a model's series, one for each worker perhaps; None where there is none."""
    found = now.series(gauge, model=model)
    return math.fsum(found.values()) if found else None


def _prompt_flops(now: Scrape, model: str) -> float | None:
    by_part = {
        dict(key)["part"]: value
        for key, value in now.series("infoprune_model_flops", model=model).items()
    }
    return math.fsum(by_part[part] for part in _PROMPT_PARTS) if by_part else None


def _accuracy(now: Scrape, model: str) -> dict[str, Accuracy]:
    bounds: dict[str, dict[str, float]] = {}
    for key, value in now.series("infoprune_accuracy_ratio", model=model).items():
        labels = dict(key)
        bounds.setdefault(labels["dataset"], {})[labels["bound"]] = value
    return {dataset: Accuracy(**found) for dataset, found in sorted(bounds.items())}


def ratios_of(rows: Sequence[ModelRow]) -> tuple[Ratios, ...]:
    """Every compressed model over its original, where both are there."""
    by_name = {row.model: row for row in rows}
    return tuple(
        _ratios(by_name[row.base], row)
        for row in rows
        if row.base is not None and row.base in by_name
    )


_NOT_BY_NAME = frozenset({"original", "compressed", "accuracy"})


def _ratios(original: ModelRow, compressed: ModelRow) -> Ratios:
    named = [each.name for each in fields(Ratios) if each.name not in _NOT_BY_NAME]
    return Ratios(
        original=original.model,
        compressed=compressed.model,
        accuracy={
            dataset: _ratio(found.value, original.accuracy[dataset].value)
            for dataset, found in compressed.accuracy.items()
            if dataset in original.accuracy
        },
        **{name: _ratio(getattr(compressed, name), getattr(original, name)) for name in named},
    )


def _ratio(above: float | None, below: float | None) -> float | None:
    return above / below if above is not None and below else None
