"""One compression job, run by RQ in a process of its own: claim, compress, register, end.

The only module of the service that imports the compressor's pipeline.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import structlog
from redis import Redis

from compressor.errors import Cancelled, CompressorError
from compressor.inspect import inspect
from compressor.pipeline import compress
from compressor.recipe import parse_recipe
from compressor.report import Side
from service.jobs.progress import Reporter
from service.jobs.records import JobRecord, JobRecords
from service.latency.measure import latency_table
from service.registry import Flops, Interval, ModelEntry, Registry
from service.settings import Settings

log = structlog.get_logger()


def run_job(job_id: str) -> None:
    """What RQ calls. Its outcome is in the job's record; RQ's own is not looked at."""
    settings = Settings()
    redis = Redis.from_url(settings.require_redis_url())
    records, registry = JobRecords(redis), Registry(redis)
    token = records.claim(job_id)
    record = records.get(job_id)
    if token is None or record is None:
        log.info("job not run", job=job_id, reason="over or unknown")
        return
    try:
        entry = _compress(record, token, records, registry, settings)
    except Cancelled:
        log.info("job stopped", job=job_id)
    except CompressorError as error:
        records.end(job_id, "failed", token=token, error=str(error))
    except MemoryError:
        records.end(job_id, "failed", token=token, error="The job ran out of memory.")
    except Exception as error:  # the job's boundary: whatever it was, its owner is told
        log.exception("job failed", job=job_id)
        sentence = f"The job failed unexpectedly: {type(error).__name__}: {error}"
        records.end(job_id, "failed", token=token, error=sentence.splitlines()[0][:300])
    else:
        log.info("job finished", job=job_id, model=entry.name)


def _compress(
    record: JobRecord, token: str, records: JobRecords, registry: Registry, settings: Settings
) -> ModelEntry:
    """Compress and register. Nothing is registered once another execution or a cancel came first."""
    original = registry.model(record.model)
    if original is None:
        raise CompressorError(f"Model {record.model!r} is no longer registered.")
    target = model_directory(settings, record.name)
    recipe = parse_recipe(record.recipe)
    report = compress(
        original.path,
        recipe,
        target,
        progress=Reporter(records, record.id, token, recipe),
        measure_latency=lambda model, progress: latency_table(
            model, settings.cache_dir, progress=progress
        ),
    )
    entry = compressed_entry(record, target, report.compressed)
    if not records.end(record.id, "finished", token=token, report=report.to_json()):
        shutil.rmtree(target, ignore_errors=True)
        raise Cancelled
    registry.put_model(original.model_copy(update={"accuracy": _accuracy(report.original)}))
    registry.put_model(entry)
    return entry


def original_entry(name: str, path: Path) -> ModelEntry:
    """The registry entry of a model that an operator wants served.

    Raises:
        CompressorError: the directory is not a whole model of a known family.
    """
    found = inspect(path)
    return ModelEntry(
        name=name,
        path=str(path.resolve()),
        variant="compressed" if found.compressed else "original",
        params=found.params,
        flops=Flops.model_validate(found.flops.to_json()),
    )


def model_directory(settings: Settings, name: str) -> Path:
    """Where the compressed model of that name goes."""
    return settings.models_dir.resolve() / name


def compressed_entry(record: JobRecord, path: Path, side: Side) -> ModelEntry:
    """The registry entry of a job's result."""
    return ModelEntry(
        name=record.name,
        path=str(path),
        variant="compressed",
        base=record.model,
        params=side.params,
        flops=Flops.model_validate(side.flops.to_json()),
        accuracy=_accuracy(side),
        job=record.id,
    )


def _accuracy(side: Side) -> dict[str, Interval]:
    return {k: Interval.model_validate(v.to_json()) for k, v in side.accuracy.items()}
