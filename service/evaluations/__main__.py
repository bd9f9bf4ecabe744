"""The evaluations' process: `python -m service.evaluations`."""

from __future__ import annotations

import signal
import time
import uuid

import structlog
from redis import Redis
from redis.exceptions import RedisError

from service.command import process_settings
from service.evaluations.runner import EvaluationRunner
from service.telemetry import configure_logging

log = structlog.get_logger()
LOOK_EVERY_S = 1.0


def main() -> None:
    """Run evaluations, one after another, until SIGTERM; one that is cut off goes on later."""
    settings = process_settings()
    configure_logging(level=settings.log_level, form=settings.log_format)
    redis = Redis.from_url(settings.require_redis_url())
    runner = EvaluationRunner(redis, settings, uuid.uuid4().hex[:12])
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        while True:
            try:
                found = runner.run_next()
            except RedisError:
                log.info("evaluations wait", reason="redis is away")
                found = False
            if not found:
                time.sleep(LOOK_EVERY_S)
    except KeyboardInterrupt:
        log.info("evaluations end")


if __name__ == "__main__":
    main()
