"""Jobs on a real Ray cluster of two nodes on this machine, submitted through the API."""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from redis import Redis

from compressor.checkpoint import verify
from service.jobs.runner import original_entry
from service.registry import Registry
from service.settings import Settings
from tests.conftest import FACTOR
from tests.support.http import call
from tests.support.random_vlm import write_random_llava
from tests.support.ray_cluster import ENVIRONMENT, cluster_within
from tests.support.servers import gateway_within, running, wait_until

pytestmark = [
    pytest.mark.skipif(
        importlib.util.find_spec("ray") is None,
        reason="Ray is not installed; the extra `ray` brings it",
    ),
    pytest.mark.timeout(600 * FACTOR),  # two nodes of Ray start, and torch is loaded
]

RECIPE = {
    "flops": 0.5, "calibration": {"samples": 16}, "evaluation": {"samples": 8}, "round_to": 4,
}  # fmt: skip
FINAL = {"finished", "failed", "cancelled"}


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Address of the cluster, and the ids of its nodes."""
    with cluster_within(tmp_path_factory.mktemp("ray")) as found:
        yield found


@pytest.fixture
def on_ray(settings: Settings, cluster: dict[str, str]) -> Settings:
    asked = {"job_backend": "ray", "ray_address": cluster["address"]}
    return settings.model_copy(update={**asked, "ray_resources": {"compress": 1.0}})


@pytest.fixture
def service(on_ray: Settings, redis: Redis, tmp_path: Path) -> Iterator[str]:
    """A gateway and a job runner that sends jobs to the cluster; the gateway's URL."""
    write_random_llava(tmp_path / "tiny", kv_heads=4)
    Registry(redis).put_model(original_entry("tiny", tmp_path / "tiny"))
    environment = ENVIRONMENT | on_ray.to_environment(on_ray.require_redis_url())
    with (
        running("service.jobs", log=tmp_path / "jobs.log", env=environment),
        gateway_within(on_ray),
    ):
        yield on_ray.gateway_url


def submit(url: str, **recipe: Any) -> str:
    reply = call("POST", f"{url}/compress", {"model": "tiny", "recipe": RECIPE | recipe})
    assert reply.status == 202, reply.body
    return str(reply.json()["id"])


def job(url: str, job_id: str) -> dict[str, Any]:
    return dict(call("GET", f"{url}/compress/{job_id}").json())


def lines(url: str, job_id: str) -> list[str]:
    return list(call("GET", f"{url}/compress/{job_id}/logs").json()["lines"])


def test_a_job_that_is_submitted_through_the_api_runs_on_the_second_node(
    service: str, on_ray: Settings, redis: Redis, cluster: dict[str, str]
) -> None:
    job_id = submit(service)
    wait_until(lambda: job(service, job_id)["status"] in FINAL, timeout_s=300.0 * FACTOR)

    done = job(service, job_id)

    assert (done["status"], done["error"], done["percent"]) == ("finished", None, 100.0)
    assert f"runs on Ray node {cluster['second']}" in "\n".join(lines(service, job_id))
    made = Registry(redis).snapshot().models[done["name"]]
    assert (made.variant, made.base, made.job) == ("compressed", "tiny", job_id)
    verify(on_ray.models_dir.resolve() / done["name"])


def test_a_cancel_ends_the_process_on_the_node(service: str, on_ray: Settings) -> None:
    job_id = submit(service, evaluation={"samples": 5000})
    wait_until(lambda: job(service, job_id)["stage"] == "evaluate", timeout_s=300.0 * FACTOR)
    assert processes_of(job_id)

    assert call("DELETE", f"{service}/compress/{job_id}").json()["status"] == "cancelled"

    wait_until(lambda: not processes_of(job_id), timeout_s=60.0 * FACTOR)
    wait_until(lambda: list(on_ray.models_dir.iterdir()) == [], timeout_s=60.0 * FACTOR)


def processes_of(job_id: str) -> list[psutil.Process]:
    """The processes on this machine that were started to run the job."""
    command = ["-m", "service.jobs.once", job_id]
    return [p for p in psutil.process_iter(["cmdline"]) if (p.info["cmdline"] or [])[1:] == command]


def test_without_a_cluster_the_job_fails_with_one_sentence(
    settings: Settings, redis: Redis, tmp_path: Path
) -> None:
    write_random_llava(tmp_path / "tiny", kv_heads=4)
    Registry(redis).put_model(original_entry("tiny", tmp_path / "tiny"))
    nowhere = settings.model_copy(update={"job_backend": "ray", "ray_address": "127.0.0.1:1"})
    environment = ENVIRONMENT | nowhere.to_environment(nowhere.require_redis_url())
    with (
        running("service.jobs", log=tmp_path / "jobs.log", env=environment),
        gateway_within(nowhere),
    ):
        began = time.monotonic()
        job_id = submit(nowhere.gateway_url)
        wait_until(
            lambda: job(nowhere.gateway_url, job_id)["status"] in FINAL, timeout_s=200.0 * FACTOR
        )
        failed = job(nowhere.gateway_url, job_id)
    assert failed["status"] == "failed"
    assert failed["error"] == (
        "No Ray cluster answers at '127.0.0.1:1'; see INFOPRUNE_RAY_ADDRESS."
    )
    assert time.monotonic() - began < 200.0 * FACTOR
