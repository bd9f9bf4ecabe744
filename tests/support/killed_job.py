"""A job whose whole runner dies by SIGKILL at a stage; enqueued by tests in `run_job`'s place."""

from __future__ import annotations

import os
import signal

from compressor.job import Stage
from service.jobs import runner
from service.jobs.execution import Execution

DIES_AT = "INFOPRUNE_TEST_DIES_AT"
RUN_JOB = f"{__name__}.run_job"


class _Dying(Execution):
    """Kills the runner and itself once the stage that the environment names has been reported."""

    def __call__(self, stage: Stage, share: float) -> None:
        super().__call__(stage, share)
        if stage == os.environ[DIES_AT]:
            os.kill(os.getppid(), signal.SIGKILL)
            os.kill(os.getpid(), signal.SIGKILL)


def run_job(job_id: str) -> None:
    """What RQ calls."""
    setattr(runner, "Execution", _Dying)  # noqa: B010 - a module has no such attribute to mypy
    runner.run_job(job_id)
