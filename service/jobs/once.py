"""One job, once: `python -m service.jobs.once JOB`, what a Ray node starts."""

from __future__ import annotations

import sys

from service.jobs.giving_way import give_way
from service.settings import Settings
from service.telemetry import configure_logging

if __name__ == "__main__":
    configure_logging()
    give_way(Settings().job_niceness)
    from service.jobs.runner import run_job  # torch and numpy come with it, and their threads

    run_job(sys.argv[1])
