"""Every metric of the gateway, in the order of docs/metrics.md, which is printed from here.

Label values come from the registry, or from sets in the code: none is a client's. `variant` is
`original` or `compressed`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, get_args

from service.telemetry.buckets import (
    FIRST_TOKEN_BUCKETS,
    JOB_BUCKETS,
    OUTPUT_TOKEN_BUCKETS,
    QUEUE_BUCKETS,
    REQUEST_BUCKETS,
    STAGE_BUCKETS,
)
from service.telemetry.spec import Spec

_MODEL = ("model", "variant")
_WORKER = (*_MODEL, "worker")
_PAIR = ("alias", "candidate")

# -- requests
REQUESTS = Spec(
    "infoprune_requests", "counter",
    "Requests to a model, by the HTTP status of their answer; 499 is a client that left.",
    (*_MODEL, "status"),
)  # fmt: skip
ERRORS = Spec(
    "infoprune_errors", "counter",
    "Requests to a model that failed, by the error's code; `engine` is a status of the engine's.",
    (*_MODEL, "reason"),
)  # fmt: skip
REFUSED = Spec(
    "infoprune_refused_requests", "counter",
    "Requests refused before a model was known, for their key or its limits, by the error's code.",
    ("reason",),
)  # fmt: skip
LATENCY = Spec(
    "infoprune_request_latency_seconds", "histogram",
    "From the request's arrival to the last byte of the answer, errors of the gateway's left out.",
    _MODEL, REQUEST_BUCKETS,
)  # fmt: skip
FIRST_TOKEN = Spec(
    "infoprune_time_to_first_token_seconds", "histogram",
    "From the request's arrival to the first token of a streamed answer.",
    _MODEL, FIRST_TOKEN_BUCKETS,
)  # fmt: skip
PER_TOKEN = Spec(
    "infoprune_request_time_per_output_token_seconds", "histogram",
    "Mean time between the tokens of a streamed answer: first token to last byte, over all tokens "
    "but the first. Answers of one token, and several answers to one request, are left out.",
    _MODEL, OUTPUT_TOKEN_BUCKETS,
)  # fmt: skip
QUEUE_TIME = Spec(
    "infoprune_request_queue_time_seconds", "histogram",
    "Wait for a worker in the gateway's queue, once for each attempt; the engine's own queue is in "
    "vllm:request_queue_time_seconds.",
    _MODEL, QUEUE_BUCKETS,
)  # fmt: skip
TOKENS = Spec(
    "infoprune_tokens", "counter",
    "Tokens of answered requests as the engine counts them, by kind: prompt (image included) or "
    "completion.",
    (*_MODEL, "kind"),
)  # fmt: skip
IN_FLIGHT = Spec(
    "infoprune_in_flight_requests", "gauge",
    "Requests whose model is chosen and whose answer is not complete, those that wait included.",
    _MODEL,
)  # fmt: skip
WAITING = Spec(
    "infoprune_waiting_requests", "gauge", "Requests that wait for a worker in the gateway.", _MODEL
)
BYTES = Spec(
    "infoprune_in_flight_bytes", "gauge", "Bytes of request bodies and fetched images in hand."
)

# -- workers
READY = Spec(
    "infoprune_ready_workers", "gauge", "Workers whose manager says that they can answer.",
    _MODEL, shared=True,
)  # fmt: skip
WORKERS = Spec(
    "infoprune_workers", "gauge", "Workers by status: starting, ready, backoff or stopped.",
    (*_MODEL, "status"), shared=True,
)  # fmt: skip
TRUSTED = Spec(
    "infoprune_trusted_workers", "gauge",
    "Workers that this gateway would send a request: they answer probes, and their breaker is not "
    "open.",
    _MODEL,
)  # fmt: skip
EJECTIONS = Spec(
    "infoprune_worker_ejections", "counter",
    "Workers taken out because they did not answer probes, or refused a connection.", _MODEL,
)  # fmt: skip
RetryReason = Literal["refused", "broke_off", "saturated", "inner_error", "stall", "ejected"]
RETRY_REASONS: tuple[RetryReason, ...] = get_args(RetryReason)
RETRIES = Spec(
    "infoprune_retries", "counter",
    "Attempts at a worker that another one had to make good, by reason: "
    f"{', '.join(RETRY_REASONS[:-1])} or {RETRY_REASONS[-1]}.",
    (*_MODEL, "reason"),
)  # fmt: skip
BREAKER_OPENINGS = Spec(
    "infoprune_breaker_openings", "counter",
    "Times that a worker's circuit breaker opened, after failures in a row or a failed trial.", _MODEL,
)  # fmt: skip
OPEN_BREAKERS = Spec(
    "infoprune_open_breakers", "gauge", "Workers whose circuit breaker is open, or half-open.", _MODEL,
)  # fmt: skip
RESTARTS = Spec(
    "infoprune_worker_restarts", "counter",
    "Times that a worker's process ended by itself, or did not start in time.", _WORKER, shared=True,
)  # fmt: skip
CPU = Spec(
    "infoprune_worker_cpu_seconds", "counter",
    "CPU time of a local worker's processes, API server and engine core; starts anew with them.",
    _WORKER, shared=True,
)  # fmt: skip
RESIDENT = Spec(
    "infoprune_worker_resident_memory_bytes", "gauge",
    "Resident memory of a local worker's processes, summed; pages that they share count in each.",
    _WORKER, shared=True,
)  # fmt: skip
GPU_MEMORY = Spec(
    "infoprune_worker_gpu_memory_bytes", "gauge",
    "GPU memory that a local worker's processes hold; absent where NVML does not tell.",
    _WORKER, shared=True,
)  # fmt: skip
GPU_BUSY = Spec(
    "infoprune_worker_gpu_utilization_ratio", "gauge",
    "Share of time that the GPUs which a local worker is on were busy, others' work included, their "
    "mean; absent where NVML does not tell.",
    _WORKER, shared=True,
)  # fmt: skip
KV_CACHE = Spec(
    "infoprune_worker_kv_cache_utilization_ratio", "gauge",
    "Share of a local worker's KV cache in use; absent if its engine is mute.", _WORKER, shared=True,
)  # fmt: skip

# -- models and their quality
MODEL_INFO = Spec(
    "infoprune_model_info", "gauge",
    "Always 1; `base` is the original of a compressed model, `state` whether it is served.",
    (*_MODEL, "base", "state"), shared=True,
)  # fmt: skip
PARAMETERS = Spec(
    "infoprune_model_parameters", "gauge", "Parameters of a model that is registered.",
    _MODEL, shared=True,
)  # fmt: skip
FLOPS = Spec(
    "infoprune_model_flops", "gauge",
    "FLOPs of the reference request (1 MAC = 2 FLOPs), by part: vision, projector, prefill, "
    "decode_token (each).",
    (*_MODEL, "part"), shared=True,
)  # fmt: skip
ACCURACY = Spec(
    "infoprune_accuracy_ratio", "gauge",
    "Accuracy as last measured on a dataset; bound: value, or low and high of the 95 % interval.",
    (*_MODEL, "dataset", "bound"), shared=True,
)  # fmt: skip
ACCURACY_SAMPLES = Spec(
    "infoprune_accuracy_samples", "gauge", "Questions behind the accuracy of a model on a dataset.",
    (*_MODEL, "dataset"), shared=True,
)  # fmt: skip

# -- aliases, shadows and canaries
ALIAS_SHARE = Spec(
    "infoprune_alias_share_ratio", "gauge",
    "Share of an alias's requests that a model shall answer, its canary's included.",
    ("alias", *_MODEL), shared=True,
)  # fmt: skip
COPIES = Spec(
    "infoprune_shadow_copies", "counter",
    "Copies of requests to the other model of a pair: answered, failed, full (it had no room) or "
    "dropped (too many under way).",
    (*_PAIR, "outcome"),
)  # fmt: skip
PAIRS = Spec(
    "infoprune_compared_pairs", "counter", "Greedy requests that both models of a pair answered.",
    _PAIR,
)  # fmt: skip
AGREEMENT = Spec(
    "infoprune_compared_agreement", "counter",
    "Sum over the compared pairs of the agreement that counts, each 0 to 1: `vqa` of short answers, "
    "`token` of longer ones.",
    _PAIR,
)  # fmt: skip
SIMILARITY = Spec(
    "infoprune_compared_similarity", "counter",
    "Sum over the compared pairs of each measure of agreement, each 0 to 1: exact (equal texts), vqa "
    "(equal after the VQA evaluation's normalisation), token (F1 of words).",
    (*_PAIR, "measure"),
)  # fmt: skip
PAIR_AGREEMENT = Spec(
    "infoprune_compared_agreement_ratio", "gauge",
    "Agreement of a pair over all gateways; bound: value, or low and high of its confidence sequence.",
    (*_PAIR, "bound"), shared=True,
)  # fmt: skip
PAIR_ERRORS = Spec(
    "infoprune_compared_error_ratio", "gauge",
    "Share of failed answers, to clients and copies, of each side of a pair; bound: value, low or "
    "high.",
    (*_PAIR, "side", "bound"), shared=True,
)  # fmt: skip
PAIR_LATENCY = Spec(
    "infoprune_compared_latency_seconds", "gauge",
    "Quantile of the latency of the requests that both models of a pair got, by side; bound: value, "
    "low or high, which is absent where it is not bounded yet.",
    (*_PAIR, "side", "quantile", "bound"), shared=True,
)  # fmt: skip
CANARY_SHARE = Spec(
    "infoprune_canary_share_ratio", "gauge", "Share of an alias's requests that go to its canary.",
    _PAIR, shared=True,
)  # fmt: skip
CANARY_STATE = Spec(
    "infoprune_canary_state", "gauge",
    "1 for the state of an alias's canary, else 0: running, or how the last one ended: promoted, "
    "rolled_back or stopped.",
    (*_PAIR, "state"), shared=True,
)  # fmt: skip
CANARY_STEP = Spec(
    "infoprune_canary_step", "gauge", "Step that a running canary is at, counted from 1.",
    _PAIR, shared=True,
)  # fmt: skip
CANARY_STEPS = Spec(
    "infoprune_canary_steps", "gauge", "Steps of a running canary.", _PAIR, shared=True
)
CANARY_STEP_STARTED = Spec(
    "infoprune_canary_step_started_timestamp_seconds", "gauge",
    "When a running canary's step began, in seconds since 1970.", _PAIR, shared=True,
)  # fmt: skip
CRITERION = Spec(
    "infoprune_canary_criterion", "gauge",
    "1 for what is known of a criterion (agreement, errors, latency), else 0: holds, regressed or "
    "undecided; of a running canary or shadow.",
    (*_PAIR, "criterion", "verdict"), shared=True,
)  # fmt: skip

# -- jobs
JOBS = Spec(
    "infoprune_jobs", "gauge",
    "Compression jobs whose record is kept, by status: queued, running, finished, failed or "
    "cancelled.",
    ("status",), shared=True,
)  # fmt: skip
QUEUED = Spec(
    "infoprune_queued_jobs", "gauge", "Jobs that wait for a runner, by priority.",
    ("priority",), shared=True,
)  # fmt: skip
OLDEST = Spec(
    "infoprune_oldest_queued_job_age_seconds", "gauge",
    "How long the job waits that was queued first; 0 where none waits.", shared=True,
)  # fmt: skip
JOB_DURATION = Spec(
    "infoprune_job_duration_seconds", "histogram",
    "Duration of the last attempt of jobs that are over, by status. It is of the records that are kept "
    "and falls as they expire: take it as it is, without rate() or increase().",
    ("status",), JOB_BUCKETS, shared=True,
)  # fmt: skip
STAGE_DURATION = Spec(
    "infoprune_job_stage_duration_seconds", "histogram",
    "Time that finished jobs spent in each stage, all attempts together. It is of the records that are "
    "kept and falls as they expire: take it as it is, without rate() or increase().",
    ("stage",), STAGE_BUCKETS, shared=True,
)  # fmt: skip

# -- the gateway itself
BUILD_INFO = Spec(
    "infoprune_build_info", "gauge", "Always 1; the labels tell the versions.", ("version", "python"),
)  # fmt: skip
STORE = Spec(
    "infoprune_store_reachable", "gauge",
    "1 where the gateway could read Redis when it last looked, else 0; it serves on meanwhile.",
)  # fmt: skip

SECTIONS: Mapping[str, tuple[Spec, ...]] = {
    "Requests": (
        REQUESTS, ERRORS, REFUSED, LATENCY, FIRST_TOKEN, PER_TOKEN, QUEUE_TIME, TOKENS, IN_FLIGHT,
        WAITING, BYTES,
    ),
    "Workers": (
        READY, WORKERS, TRUSTED, EJECTIONS, RETRIES, BREAKER_OPENINGS, OPEN_BREAKERS, RESTARTS, CPU,
        RESIDENT, GPU_MEMORY, GPU_BUSY, KV_CACHE,
    ),
    "Models and their quality": (MODEL_INFO, PARAMETERS, FLOPS, ACCURACY, ACCURACY_SAMPLES),
    "Aliases, shadows and canaries": (
        ALIAS_SHARE, COPIES, PAIRS, AGREEMENT, SIMILARITY, PAIR_AGREEMENT, PAIR_ERRORS, PAIR_LATENCY,
        CANARY_SHARE, CANARY_STATE, CANARY_STEP, CANARY_STEPS, CANARY_STEP_STARTED, CRITERION,
    ),
    "Jobs": (JOBS, QUEUED, OLDEST, JOB_DURATION, STAGE_DURATION),
    "The gateway itself": (BUILD_INFO, STORE),
}  # fmt: skip
CATALOGUE: tuple[Spec, ...] = tuple(spec for specs in SECTIONS.values() for spec in specs)
