"""The compression job from top to bottom: calibrate, score, plan, prune, heal, evaluate, export.

Every stage leaves its results in a work directory beside the target (`compressor/work.py`). The same
command after a crash goes on with what is there, and ends in the same bits.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path

from compressor.allocator import free_at_once
from compressor.checkpoint import MANIFEST, Tower
from compressor.errors import CompressorError, DiskFullError
from compressor.evaluate.metrics import Interval
from compressor.export import (
    HEALED,
    Candidate,
    check_target,
    has_candidate,
    one_sentence_when_full,
    publish,
    write_candidate,
    write_healed,
)
from compressor.families import TowerSpec
from compressor.heal import heal as train
from compressor.job import (
    STAGES,
    Job,
    MeasureLatency,
    Progress,
    Stage,
    is_finished,
    open_job,
    passed_piece,
    pruned_piece,
    scores_piece,
)
from compressor.layers import calibrate_one, prune_one, score_one
from compressor.leftovers import restore
from compressor.measure import drop_on_validation
from compressor.meter import Meter, both
from compressor.outcome import count_flops, evaluate, gather
from compressor.plan import Plan
from compressor.planning import make
from compressor.recipe import Recipe
from compressor.report.data import DryRun, Report
from compressor.scoring import LayerScores
from compressor.search import SEARCH, TryProgress, bisect
from compressor.streams import Stream
from compressor.work import Work

__all__ = ["STAGES", "Job", "Progress", "Stage", "compress", "dry_run", "open_job"]


def compress(
    source: str | Path,
    recipe: Recipe,
    out: str | Path,
    *,
    plan: Plan | None = None,
    progress: Progress = lambda stage, share: None,
    measure_latency: MeasureLatency | None = None,
    times: Path | None = None,
    overwrite: bool = False,
) -> Report:
    """Compress a model directory into a new checkpoint directory.

    Args:
        source: an original Hugging Face model directory.
        recipe: what to compress towards.
        out: where the checkpoint goes; appears only when it is whole.
        plan: replay this plan instead of making one.
        progress: see `Progress`.
        measure_latency: gives the table that the target `latency` is counted by.
        times: a directory where measured times of this machine are kept; with it, and where the recipe
            evaluates, the report has the time of a request to both.
        overwrite: replace a compressed model that is at `out`; an original never is.

    Raises:
        CompressorError: one sentence on what is wrong; nothing is left at `out`.
    """
    source, out, meter = Path(source), Path(out), Meter()
    restore(out, MANIFEST)
    check_target(out, overwrite=overwrite or is_finished(source, recipe, out, plan))
    with _opened(
        source, recipe, out, plan=plan, progress=both(meter, progress),
        measure_latency=measure_latency, times=times,
    ) as job:  # fmt: skip
        return replace(_run(job, out, plan), spent=meter.spent())


def dry_run(
    source: str | Path,
    recipe: Recipe,
    out: str | Path,
    *,
    plan: Plan | None = None,
    progress: Progress = lambda stage, share: None,
    measure_latency: MeasureLatency | None = None,
) -> DryRun:
    """Calibrate, score and plan as `compress` would; it then goes on with what is kept of this.

    A search for the smallest model that keeps an accuracy has to prune and ask, so it does.

    Raises:
        CompressorError: one sentence on what is wrong.
    """
    out, meter = Path(out), Meter()
    with _opened(
        Path(source), recipe, out, plan=plan, progress=both(meter, progress),
        measure_latency=measure_latency,
    ) as job:  # fmt: skip
        made = plan or decide(job, score(job))[0]
        job.progress("plan", 1.0)
        flops = (count_flops(job, {}), count_flops(job, made.towers))
        return DryRun(made, job.specs, *flops, job.work.directory, meter.spent())


@contextmanager
def _opened(
    source: Path,
    recipe: Recipe,
    out: Path,
    *,
    plan: Plan | None,
    progress: Progress,
    measure_latency: MeasureLatency | None,
    times: Path | None = None,
) -> Iterator[Job]:
    """A job; a failure leaves nothing of it, but where a full disk stopped it its pieces stay."""
    free_at_once()
    with one_sentence_when_full(out):
        job = open_job(
            source, recipe, out, plan=plan, progress=progress, measure_latency=measure_latency,
            times=times,
        )  # fmt: skip
    try:
        with one_sentence_when_full(out):
            yield job
    except DiskFullError:
        raise
    except CompressorError:
        # The same command would end in the same sentence: there is nothing to go on with.
        job.work.remove()
        raise


def _run(job: Job, out: Path, plan: Plan | None) -> Report:
    scores = {} if plan else score(job)
    made, work = (plan, job.work) if plan else decide(job, scores)
    job.progress("plan", 1.0)
    candidate = heal(job, made, prune(job, made, work), work)
    report = evaluate(job, made, candidate)
    job.progress("export", 0.0)
    publish(candidate, out, gather(job, made, scores, report))
    job.work.remove()
    job.progress("export", 1.0)
    return report


def calibrate(job: Job) -> None:
    """Collect every layer's statistics on the calibration data, one layer in memory at a time."""
    job.progress("calibrate", 0.0)
    total, done = sum(spec.used_layers for spec in job.specs), 0
    upstream: list[tuple[TowerSpec, Stream]] = []
    for spec in job.specs:
        first = job.work.finished(passed_piece(spec, i) for i in range(spec.used_layers))
        stream = _enter(job, job.work, "calibrate", spec, upstream, first)
        for index in range(first, spec.used_layers):
            calibrate_one(job, spec, index, stream)
            job.progress("calibrate", (done + index + 1) / total)
        done += spec.used_layers
        upstream.append((spec, stream))


def _enter(
    job: Job,
    work: Work,
    name: str,
    spec: TowerSpec,
    upstream: list[tuple[TowerSpec, Stream]],
    depth: int,
) -> Stream:
    """A stream at a tower's layer `depth`; from 0 on its activations are computed."""
    batches, weights = job.data
    stream = Stream(work.directory / "streams" / name / spec.name, job.device)
    stream.depth = depth
    job.model.enter(spec, batches, upstream, stream, fresh=depth == 0)
    if spec.name == "language":
        stream.weights = weights
    return stream


def score(job: Job) -> dict[Tower, list[LayerScores]]:
    """Score every layer's heads, matrices and neurons."""
    wanted = [
        (spec, i)
        for spec in job.specs
        if spec.name in job.recipe.towers
        for i in range(spec.used_layers)
    ]
    if not all(job.work.has(scores_piece(spec, i)) for spec, i in wanted):
        calibrate(job)
    scores: dict[Tower, list[LayerScores]] = {}
    for done, (spec, index) in enumerate(wanted, start=1):
        if not job.work.has(scores_piece(spec, index)):
            score_one(job, spec, index)
        content = job.work.load_json(scores_piece(spec, index))
        scores.setdefault(spec.name, []).append(LayerScores.of_json(content))
        job.progress("score", done / len(wanted))
    return scores


def decide(job: Job, scores: Mapping[Tower, list[LayerScores]]) -> tuple[Plan, Work]:
    """Allocate the recipe's budget over all towers in scope.

    Returns the plan, and where its pieces are: a search for the smallest model that keeps an accuracy
    has pruned and healed the one that it found.
    """
    target, value = job.recipe.target
    if target != "max_accuracy_drop":
        return make(job, scores, target, value), job.work

    tries = TryProgress(job.progress)
    trying = job.telling(tries)

    def measure(share: float) -> Interval:
        tries.next()
        plan, work = make(job, scores, "flops", share), job.work.sub(f"try-{share:g}")
        candidate = heal(trying, plan, prune(trying, plan, work), work)
        return drop_on_validation(
            job.source, candidate.directory, job.processor, job.recipe.evaluation,
            job.recipe.seed, (job.work, work), device=job.asking_device,
            advance=lambda share: tries("evaluate", share),
        )  # fmt: skip

    share, tried = bisect(measure, value)
    job.work.save_json(SEARCH, [asdict(each) for each in tried])
    return make(job, scores, "flops", share), job.work.sub(f"try-{share:g}")


def prune(job: Job, plan: Plan, work: Work) -> Candidate:
    """The compressed weights: heads cut, matrices factored, FFNs narrowed, what is left fitted."""
    total, done = sum(spec.used_layers for spec in job.specs), 0
    upstream: tuple[list[tuple[TowerSpec, Stream]], ...] = ([], [])
    for spec in job.specs:
        layers = plan.towers.get(spec.name)
        first = work.finished(pruned_piece(spec, i) for i in range(spec.used_layers))
        streams = [
            _enter(job, work, name, spec, behind, first)
            for name, behind in zip(("original", "compressed"), upstream, strict=True)
        ]
        for index in range(first, spec.used_layers):
            prune_one(job, work, spec, index, layers[index] if layers else None, streams)
            job.progress("prune", (done + index + 1) / total)
        done += spec.used_layers
        for behind, stream in zip(upstream, streams, strict=True):
            behind.append((spec, stream))
    return write_candidate(work, job.model.model, job.specs, job.family, job.source, plan)


def heal(job: Job, plan: Plan, candidate: Candidate, work: Work) -> Candidate:
    """The candidate after the recipe's recovery; the same one where there is none."""
    if not job.recipe.recovery.steps:
        return candidate
    if not has_candidate(work, HEALED):
        job.progress("heal", 0.0)
        student = train(
            job.source, candidate.directory, job.processor, job.recipe, work, job.device,
            advance=lambda share: job.progress("heal", share),
        )  # fmt: skip
        return write_healed(work, student.cpu(), job.family, candidate)
    return Candidate(work.directory / HEALED)
