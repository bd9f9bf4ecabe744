"""Policies of the worker manager: when to start again, and with which command."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.settings import Settings
from service.workers.policy import LONGEST_DELAY_S, STABLE_AFTER_S, Failures, delay_s
from service.workers.vllm_command import Machine, choose_dtype, worker_command, worker_environment
from tests.unit.test_routing import entry

OLD_CPU = Machine(cores=2, cpu_flags=frozenset({"avx2"}), has_gpu=False)
NEW_CPU = Machine(cores=2, cpu_flags=frozenset({"avx512_bf16"}), has_gpu=False)
NEW_ARM = Machine(cores=2, cpu_flags=frozenset({"asimd", "bf16"}), has_gpu=False)
GPU = Machine(cores=16, cpu_flags=frozenset({"avx2"}), has_gpu=True)


def test_a_fresh_worker_may_start_at_once() -> None:
    assert Failures().may_start(0.0, 0.9)


@given(st.integers(1, 100), st.floats(0, 0.99))
def test_the_delay_grows_to_a_minute_and_a_quarter(failures: int, jitter: float) -> None:
    assert 1 <= delay_s(failures, jitter) <= 1.25 * LONGEST_DELAY_S
    assert delay_s(failures + 1, jitter) >= delay_s(failures, jitter)


def test_a_worker_that_keeps_failing_waits_longer_each_time() -> None:
    failures = Failures()
    for count, wait in enumerate((1, 2, 4), start=1):
        failures = failures.after(100.0, ran_s=3.0)
        assert failures.count == count
        assert not failures.may_start(100.0 + wait - 0.1, 0.0)
        assert failures.may_start(100.0 + wait, 0.0)


def test_a_long_run_starts_the_count_anew() -> None:
    assert Failures(7, 0.0).after(1000.0, ran_s=STABLE_AFTER_S).count == 1


@pytest.mark.parametrize(
    ("setting", "machine", "dtype"),
    [
        ("auto", OLD_CPU, "float32"),
        ("auto", NEW_CPU, "auto"),
        ("auto", NEW_ARM, "auto"),
        ("auto", GPU, "auto"),
        ("bfloat16", OLD_CPU, "bfloat16"),
    ],
)
def test_bf16_is_avoided_where_it_is_slow(setting: str, machine: Machine, dtype: str) -> None:
    assert choose_dtype(setting, machine) == dtype


def test_the_command_serves_the_model_by_its_name_to_this_machine_only() -> None:
    settings = Settings(run_dir=Path("r"), worker_max_model_len=512, worker_extra_args=("--x",))
    command = worker_command(entry("a"), 1234, settings, OLD_CPU)

    options = dict(pairwise(command))
    assert options["--model"] == "/m"
    assert options["--served-model-name"] == "a"
    assert options["--host"] == "127.0.0.1"
    assert options["--port"] == "1234"
    assert options["--max-model-len"] == "512"
    assert command[-1] == "--x"
    assert "--enforce-eager" in command
    assert "--enforce-eager" not in worker_command(entry("a"), 1, settings, GPU)


def test_traces_go_to_the_collector_that_is_named() -> None:
    quiet = worker_command(entry("a"), 1, Settings(otlp_endpoint=None), OLD_CPU)
    assert "--otlp-traces-endpoint" not in quiet
    traced = worker_command(entry("a"), 1, Settings(otlp_endpoint="http://c:4318/"), OLD_CPU)
    assert dict(pairwise(traced))["--otlp-traces-endpoint"] == "http://c:4318/v1/traces"
    given = worker_environment({}, OLD_CPU)
    assert given["OTEL_EXPORTER_OTLP_TRACES_PROTOCOL"] == "http/protobuf", "as the path says"


@pytest.mark.parametrize("asked", [True, False])
def test_the_engine_logs_the_ids_of_requests_where_that_is_asked_for(asked: bool) -> None:
    command = worker_command(entry("a"), 1, Settings(worker_log_requests=asked), GPU)
    assert ("--enable-log-requests" in command) == asked


def test_the_engine_logs_the_ids_of_requests_by_default() -> None:
    assert "--enable-log-requests" in worker_command(entry("a"), 1, Settings(), GPU)


def test_an_operators_environment_wins_over_the_workers_defaults() -> None:
    found = worker_environment({"OMP_NUM_THREADS": "7", "HOME": "/h"}, OLD_CPU)
    assert found["OMP_NUM_THREADS"] == "7"
    assert worker_environment({}, OLD_CPU)["OMP_NUM_THREADS"] == "1"
    assert found["HOME"] == "/h"
    assert found["HF_HUB_OFFLINE"] == "1"
    assert "VLLM_CPU_KVCACHE_SPACE" not in worker_environment({}, GPU)


def test_a_model_may_have_arguments_of_its_own_after_those_of_all() -> None:
    settings = Settings(
        worker_extra_args=("--max-num-seqs", "8"),
        worker_model_args={"big": ("--tensor-parallel-size", "2")},
        worker_host="0.0.0.0",
    )
    big = worker_command(entry("big"), 1234, settings, GPU)
    assert big[-4:] == ["--max-num-seqs", "8", "--tensor-parallel-size", "2"]
    assert big[big.index("--host") + 1] == "0.0.0.0"
    assert worker_command(entry("small"), 1234, settings, GPU)[-2:] == ["--max-num-seqs", "8"]
