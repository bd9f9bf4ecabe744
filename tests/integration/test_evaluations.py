"""Evaluations through the real gateway, with a fake engine that always says yes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from redis import Redis

from service.evaluations.records import EvaluationRecord, EvaluationRecords
from service.evaluations.runner import EvaluationRunner
from service.registry import Registry
from service.rollout.lease import Lease
from service.rollout.replicas import Replica, Replicas
from service.settings import Settings
from tests.integration.test_compression_api import call
from tests.support.servers import running, wait_until

ASKED = {"dataset": "easy-vqa", "models": ["tiny", "small"], "samples": 20, "seed": 1}


@pytest.fixture
def process(pair: str, settings: Settings, tmp_path: Path) -> Iterator[str]:
    """The gateway, with the evaluations' process beside it."""
    environment = settings.to_environment(settings.require_redis_url())
    with running("service.evaluations", log=tmp_path / "evaluations.log", env=environment):
        yield pair


def test_an_evaluation_measures_both_models_and_feeds_the_registry(
    process: str, redis: Redis
) -> None:
    status, record = call("POST", f"{process}/evaluations", ASKED)
    assert (status, record["status"]) == (202, "queued")
    url = f"{process}/evaluations/{record['id']}"
    wait_until(lambda: call("GET", url)[1]["status"] == "finished", timeout_s=60)

    _, done = call("GET", url)
    accuracy = done["report"]["models"]["small"]["accuracy"]["easy-vqa"]
    assert 0 < accuracy["value"] < 1, "some answers are yes"
    assert accuracy["n"] == 20
    assert done["report"]["mean_difference"]["value"] == 0.0, "the same engine answered"
    assert call("GET", f"{process}/evaluations")[1]["data"] == [done]
    for name in ("tiny", "small"):
        entry = Registry(redis).model(name)
        assert entry is not None
        assert entry.accuracy["easy-vqa"].value == accuracy["value"]
        assert entry.evaluation == record["id"]


def runner(redis: Redis, settings: Settings) -> EvaluationRunner:
    return EvaluationRunner(redis, settings, "test")


def queued(redis: Redis, settings: Settings) -> EvaluationRecord:
    record = EvaluationRecord(models=("tiny",), datasets=("easy-vqa",), samples=5)
    return EvaluationRecords(redis, ttl_s=settings.job_ttl_s).create(record)


def test_an_evaluation_waits_for_clients_and_can_be_cancelled_meanwhile(
    pair: str, redis: Redis, settings: Settings, tmp_path: Path
) -> None:
    busy = Replica(id="busy", in_flight={"tiny": 99}, reported=time.time() + 60)
    Replicas(redis).report(busy)
    environment = settings.to_environment(settings.require_redis_url())
    with running("service.evaluations", log=tmp_path / "evaluations.log", env=environment):
        _, record = call("POST", f"{pair}/evaluations", ASKED)
        url = f"{pair}/evaluations/{record['id']}"
        wait_until(lambda: call("GET", url)[1]["status"] == "running", timeout_s=60)
        time.sleep(1.0)
        assert call("GET", url)[1]["answered"] == 0
        assert call("DELETE", url)[1]["status"] == "cancelled"
        Replicas(redis).forget("busy")
        time.sleep(1.0)
        assert call("GET", url)[1]["status"] == "cancelled"


def test_an_evaluation_that_another_runs_is_left_alone(redis: Redis, settings: Settings) -> None:
    record = queued(redis, settings)
    other = Lease(redis, f"infoprune:evaluation-lease:{record.id}", "other")
    assert other.hold() is not None
    assert not runner(redis, settings).run_next()
    other.release()


def test_a_gateway_that_refuses_fails_the_evaluation_in_one_sentence(
    gateway: str, redis: Redis, settings: Settings
) -> None:
    del gateway
    records = EvaluationRecords(redis, ttl_s=settings.job_ttl_s)
    record = records.create(EvaluationRecord(models=("gone",), datasets=("easy-vqa",), samples=2))
    assert runner(redis, settings).run_next()
    found = records.get(record.id)
    assert found.status == "failed"
    assert found.error is not None
    assert "'gone' does not exist" in found.error


def test_the_same_id_is_one_evaluation_and_an_old_one_is_forgotten(
    redis: Redis, settings: Settings
) -> None:
    records = EvaluationRecords(redis, ttl_s=settings.job_ttl_s)
    first = records.create(EvaluationRecord(id="x", models=("a",), datasets=("d",), samples=1))
    assert records.create(first.model_copy(update={"samples": 9})) == first
    assert records.update("x", status="finished", ended=1.0)
    assert not records.update("x", status="cancelled"), "what is over stays so"
    assert records.list() == []
