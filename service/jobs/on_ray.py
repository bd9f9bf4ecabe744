"""A job's process on any node of a Ray cluster; this process waits, and takes it along when it dies.

The nodes share `run_dir` and Redis. There the job is what it is here: it claims its record, beats,
reports and registers by itself, so fencing, progress and resuming do not know of Ray. RQ ends this
process to cancel the job; Ray then ends the task's process, and the guard everything below it.
"""

from __future__ import annotations

import os
import socket
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import structlog
from redis import Redis

from service.errors import JobNodeError
from service.jobs.records import JobRecords
from service.settings import Settings
from service.workers.process import GuardedProcess

log = structlog.get_logger()
POLL_S = 0.2
CONNECT_TIMEOUT_S = 10.0


def run_on_ray(job_id: str, settings: Settings) -> None:
    """Run a job on the cluster; its outcome is in its record.

    Raises:
        JobNodeError: its process, its node or the connection died; the sweeper starts it again.
    """
    redis = Redis.from_url(settings.require_redis_url())
    records = JobRecords(redis, ttl_s=settings.job_ttl_s)
    try:
        ray = _connected(settings.ray_address)
    except (ImportError, OSError, RuntimeError) as error:
        log.warning("ray not reached", job=job_id, error=str(error))
        records.end(job_id, "failed", error=_unreachable(settings.ray_address, error))
        return
    try:
        records.log(job_id, "waits for a node of the Ray cluster")
        task = ray.remote(execute).options(
            name=f"infoprune-{job_id}",
            num_cpus=settings.ray_cpus,
            num_gpus=settings.ray_gpus,
            resources=settings.ray_resources,
            max_retries=0,  # the sweeper counts attempts
        )
        environment = settings.to_environment(settings.require_redis_url())
        status = ray.get(task.remote(job_id, environment, str(settings.run_dir.resolve())))
    except ray.exceptions.RayError as error:
        raise JobNodeError(f"The job's Ray node was lost ({type(error).__name__}).") from error
    finally:
        ray.shutdown()
    if status != 0:
        raise JobNodeError(f"The job's process on the Ray node ended with status {status}.")


def execute(job_id: str, environment: Mapping[str, str], run_dir: str) -> int:
    """On the node: the job in a process of its own; its exit status. Its log is in `run_dir`."""
    import ray

    settings_url = environment["REDIS_URL"]
    node = ray.get_runtime_context().get_node_id()
    with Redis.from_url(settings_url) as redis:
        JobRecords(redis).log(job_id, f"runs on Ray node {node}")
    process = GuardedProcess(
        [sys.executable, "-m", "service.jobs.once", job_id],
        env={**os.environ, **environment, "INFOPRUNE_RUN_DIR": run_dir},
        log=Path(run_dir) / "logs" / f"job-{job_id}.log",
    )
    try:
        while (status := process.poll()) is None:
            time.sleep(POLL_S)
    finally:
        process.stop()
    return status


def _connected(address: str) -> Any:
    """Ray, connected to a cluster that runs already.

    Raises:
        ImportError: Ray is not installed.
        OSError: no cluster answers.
        RuntimeError: a cluster of another version answers.
    """
    import ray

    host, _, port = address.rpartition(":")
    if port.isdecimal():  # Ray itself would try for minutes
        socket.create_connection((host.strip("[]"), int(port)), timeout=CONNECT_TIMEOUT_S).close()
    ray.init(address=address, log_to_driver=False, logging_level="WARNING")
    return ray


def _unreachable(address: str, error: Exception) -> str:
    if isinstance(error, ImportError):
        return "Ray is not installed beside the job runner; install infoprune[ray]."
    return f"No Ray cluster answers at {address!r}; see INFOPRUNE_RAY_ADDRESS."
