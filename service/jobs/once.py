"""One job, once: `python -m service.jobs.once JOB`, what a Ray node starts."""

from __future__ import annotations

import sys

from service.jobs.runner import run_job
from service.telemetry import configure_logging

if __name__ == "__main__":
    configure_logging()
    run_job(sys.argv[1])
