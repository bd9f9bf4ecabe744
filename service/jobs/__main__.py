"""The job runner: `python -m service.jobs`. Takes jobs from the queue, one at a time."""

from __future__ import annotations

from redis import Redis
from rq import SpawnWorker
from rq.serializers import JSONSerializer

from service.jobs.queue import QUEUE
from service.jobs.sweeper import Sweeper
from service.settings import Settings
from service.telemetry import configure_logging


def main() -> None:
    """Work until SIGTERM. Each job gets a process of its own, spawned: fork and CUDA conflict."""
    settings = Settings()
    configure_logging()
    settings.models_dir.mkdir(parents=True, exist_ok=True)
    redis = Redis.from_url(settings.require_redis_url())
    sweeper = Sweeper(Redis.from_url(settings.require_redis_url()), settings.models_dir)
    sweeper.start()
    worker = SpawnWorker([QUEUE], connection=redis, serializer=JSONSerializer)
    try:
        worker.work(logging_level="WARNING")
    finally:
        sweeper.stop()


if __name__ == "__main__":
    main()
