"""What RQ calls for a job, in a process of its own: runs it here, or on a node of a Ray cluster."""

from __future__ import annotations

from service.jobs.giving_way import give_way
from service.settings import Settings


def run_job(job_id: str) -> None:
    """Run a job to its end, wherever the settings say."""
    settings = Settings()
    if settings.job_backend == "ray":
        from service.jobs.on_ray import run_on_ray

        run_on_ray(job_id, settings)
        return
    give_way(settings.job_niceness)
    from service.jobs import runner  # torch comes with it

    runner.run_job(job_id)
