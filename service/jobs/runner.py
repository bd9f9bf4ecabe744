"""One compression job, run by RQ in a process of its own: claim, compress, register, end.

With `execution.py` the only module of the service that imports the compressor's pipeline.
"""

from __future__ import annotations

import json
import shutil
import traceback
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import structlog
from redis import Redis
from redis.backoff import ExponentialBackoff, NoBackoff
from redis.retry import Retry

from compressor.errors import Cancelled, CompressorError
from compressor.inspect import inspect
from compressor.pipeline import compress
from compressor.recipe import parse_recipe
from compressor.report import Side
from service.hub import find_models
from service.jobs.execution import Execution, Superseded
from service.jobs.records import JobRecord, JobRecords
from service.jobs.stages import JobSpans
from service.jobs.transfer import fetch_model, store_model
from service.latency.measure import latency_table
from service.registration import with_lineage
from service.registry import Flops, Interval, ModelEntry, Registry
from service.settings import Settings
from service.telemetry.logs import bind, configure_logging
from service.telemetry.tracing import open_tracing

log = structlog.get_logger()


def run_job(job_id: str) -> None:
    """What RQ calls. Its outcome is in the job's record; RQ's own is not looked at."""
    settings = Settings()
    configure_logging(level=settings.log_level, form=settings.log_format)
    # Half a minute of patience where a job reads what it cannot do without.
    patient = Retry(ExponentialBackoff(cap=5.0, base=0.1), 12)
    redis = Redis.from_url(settings.require_redis_url(), retry=patient)
    # Progress and signs of life do not wait: the next one will do.
    eager = Redis.from_url(
        settings.require_redis_url(), socket_timeout=5.0, retry=Retry(NoBackoff(), 0)
    )
    records = JobRecords(redis, ttl_s=settings.job_ttl_s)
    token = records.claim(job_id)
    record = records.get(job_id)
    if token is None or record is None:
        log.info("job not run", job=job_id, reason="over, unknown, or run by another")
        return
    eager_records = JobRecords(eager, ttl_s=settings.job_ttl_s)
    recipe = parse_recipe(record.recipe)
    with (
        traced(record, settings) as spans,
        Execution(
            eager_records, job_id, token, recipe, earlier=record.stages, spans=spans
        ) as execution,
    ):
        execution.note(f"attempt {record.attempt} of {record.name} begins")
        status = _run(record, execution, Registry(redis), settings)
        if spans is not None:
            spans.end(status)


@contextmanager
def traced(record: JobRecord, settings: Settings) -> Iterator[JobSpans | None]:
    """The job's spans where traces are wanted; they are sent when the block ends."""
    bind(job=record.id)
    tracing = open_tracing(settings, "infoprune-job")
    if tracing is None:
        yield None
        return
    try:
        yield JobSpans(tracing, record)
    finally:
        tracing.close()  # RQ ends this process without any other goodbye


def _run(record: JobRecord, execution: Execution, registry: Registry, settings: Settings) -> str:
    """Compress; whatever happens, the job's owner is told in one sentence. Returns how it ended."""
    try:
        entry = _compress(record, execution, registry, settings)
    except (Cancelled, Superseded) as stop:
        log.info("job stopped", reason=type(stop).__name__)
        return type(stop).__name__.lower()
    except CompressorError as error:
        execution.note(str(error))
        execution.end("failed", error=str(error))
    except MemoryError:
        execution.end("failed", error="The job ran out of memory.")
    except Exception as error:  # the job's boundary
        log.exception("job failed")
        execution.note(traceback.format_exc())
        sentence = f"The job failed unexpectedly: {type(error).__name__}: {error}"
        execution.end("failed", error=sentence.splitlines()[0][:300])
    else:
        execution.note(f"finished: {entry.name}")
        log.info("job finished", model=entry.name)
        return "finished"
    return "failed"


def _compress(
    record: JobRecord, execution: Execution, registry: Registry, settings: Settings
) -> ModelEntry:
    """Compress and register. Nothing is registered once another execution or a cancel came first."""
    original = registry.model(record.model)
    if original is None:
        raise CompressorError(f"Model {record.model!r} is no longer registered.")
    source = fetch_model(original, settings)
    target = model_directory(settings, record.name)
    result = compress(
        source,
        execution.recipe,
        target,
        progress=execution,
        measure_latency=lambda model, progress: latency_table(
            model, settings.cache_dir, progress=progress
        ),
        times=settings.cache_dir,
        overwrite=True,  # the name is this job's: what is there is its own, from before a kill
    )
    report = result.to_json()
    entry = compressed_entry(record, target, result.compressed, report)
    if settings.checkpoint_store is not None:
        location = store_model(target, settings.checkpoint_store)
        entry = entry.model_copy(update={"location": location})
    if execution.end("finished", report=report, model=entry) == "refused":
        refused = execution.refused()
        if isinstance(refused, Cancelled):
            shutil.rmtree(target, ignore_errors=True)
        raise refused
    accuracy = _accuracy(result.original)
    registry.update_model(
        original.name,
        lambda known: known.model_copy(update={"accuracy": known.accuracy | accuracy}),
    )
    return entry


def original_entry(name: str, path: Path) -> ModelEntry:
    """The registry entry of a model that an operator wants served; `infoprune compress` made some.

    Raises:
        CompressorError: the directory is not a whole model of a known family.
    """
    found = inspect(path)
    entry = ModelEntry(
        name=name,
        path=str(path.resolve()),
        variant="compressed" if found.compressed else "original",
        params=found.params,
        flops=Flops.model_validate(found.flops.to_json()),
    )
    return with_lineage(entry) if found.compressed else entry


def original_entries(given: Iterable[str], settings: Settings) -> list[ModelEntry]:
    """Entries of models that an operator names, by directory or as the hub's.

    Raises:
        CompressorError: a directory is not a whole model of a known family.
        HubError: a hub model is not allowed, or cannot be fetched.
    """
    return [original_entry(*found) for found in find_models(given, settings.hub_models)]


def model_directory(settings: Settings, name: str) -> Path:
    """Where the compressed model of that name goes."""
    return settings.models_dir.resolve() / name


def compressed_entry(
    record: JobRecord, path: Path, side: Side, report: dict[str, object]
) -> ModelEntry:
    """The registry entry of a job's result, with its lineage."""
    plan = json.loads((path / "config.json").read_text()).get("compression", {})
    return ModelEntry(
        name=record.name,
        path=str(path),
        variant="compressed",
        base=record.model,
        params=side.params,
        flops=Flops.model_validate(side.flops.to_json()),
        accuracy=_accuracy(side),
        job=record.id,
        recipe=record.recipe,
        plan_sha256=plan.get("plan_sha256"),
        measured=report,
        report=str(path / "report.json"),
    )


def _accuracy(side: Side) -> dict[str, Interval]:
    return {k: Interval.model_validate(v.to_json()) for k, v in side.accuracy.items()}
