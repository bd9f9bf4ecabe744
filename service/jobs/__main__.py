"""The job runner: `python -m service.jobs`. Takes jobs from the queue, one or several at a time."""

from __future__ import annotations

from redis import Redis
from rq import SpawnWorker
from rq.serializers import JSONSerializer
from rq.worker_pool import WorkerPool

from service.command import process_settings
from service.jobs.places import LimitedWorker
from service.jobs.queue import QUEUES
from service.jobs.sweeper import Sweeper
from service.settings import Settings
from service.telemetry import configure_logging


def main() -> None:
    """Work until SIGTERM. Each job gets a process of its own, spawned: fork and CUDA conflict."""
    settings = process_settings()
    configure_logging(level=settings.log_level, form=settings.log_format)
    settings.models_dir.mkdir(parents=True, exist_ok=True)
    url = settings.require_redis_url()
    sweeper = Sweeper(Redis.from_url(url), settings)
    sweeper.start()
    try:
        work(Redis.from_url(url), list(QUEUES.values()), settings)
    finally:
        sweeper.stop()


def work(redis: Redis, queues: list[str], settings: Settings) -> None:
    """Take jobs, those of the first queue first."""
    kind = SpawnWorker if settings.job_limit is None else LimitedWorker
    if settings.job_concurrency == 1:
        kind(queues, connection=redis, serializer=JSONSerializer).work(logging_level="WARNING")
        return
    pool = WorkerPool(
        queues, redis, num_workers=settings.job_concurrency, worker_class=kind,
        serializer=JSONSerializer,
    )  # fmt: skip
    pool.start(logging_level="WARNING")


if __name__ == "__main__":
    main()
