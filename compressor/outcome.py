"""What a compression came to: both models measured, and everything that its report shows."""

from __future__ import annotations

from collections.abc import Mapping

from compressor import inputs
from compressor.checkpoint import Tower
from compressor.export import Candidate
from compressor.flops import RequestFlops, kv_values, request_flops
from compressor.inspect import count_parameters
from compressor.job import Job
from compressor.latency.request import time_in_turns, times_of, told_by
from compressor.measure import evaluate_pair
from compressor.plan import Plan, PlannedLayer
from compressor.planning import gates_of, has_table, latency_table, planned_seconds
from compressor.report.data import Evidence, Report, Side, details
from compressor.scoring import LayerScores
from compressor.search import SEARCH


def evaluate(job: Job, plan: Plan, candidate: Candidate) -> Report:
    """Measure both models, from their files, on the same test questions and by the same request."""
    timing = _is_timed(job)
    asking = 0.9 if timing else 1.0
    accuracy = evaluate_pair(
        job.source, candidate.directory, job.processor, job.recipe.evaluation, job.recipe.seed,
        job.work, device=job.asking_device,
        advance=lambda share: job.progress("evaluate", asking * share),
    )  # fmt: skip
    seconds, latency_by = _timed(job, plan, candidate) if timing else _planned(job, plan)
    sides = [
        Side(
            sum(count_parameters(p) for p in directory.glob("*.safetensors")),
            sum(p.stat().st_size for p in directory.glob("*.safetensors")),
            count_flops(job, towers),
            kv_values(job.specs, towers),
            measured,
            latency_s,
        )
        for directory, towers, measured, latency_s in (
            (job.source, {}, accuracy.original, seconds[0]),
            (candidate.directory, plan.towers, accuracy.compressed, seconds[1]),
        )
    ]
    return Report(
        job.source.name, sides[0], sides[1], accuracy.difference, job.recipe.seed,
        mean_difference=accuracy.mean_difference, latency_by=latency_by,
    )  # fmt: skip


def _is_timed(job: Job) -> bool:
    """Whether a request is timed: where whole models are asked anyway, and no table tells the times."""
    return job.times is not None and job.recipe.evaluation.samples > 0 and not has_table(job)


def _planned(job: Job, plan: Plan) -> tuple[tuple[float | None, float | None], str | None]:
    """Seconds of a request to both by the table that the plan was made by, and how; None without."""
    if not has_table(job):
        return (None, None), None
    seconds = planned_seconds(job, {}), planned_seconds(job, plan.towers)
    return seconds, f"predicted from {latency_table(job).told}"


def _timed(
    job: Job, plan: Plan, candidate: Candidate
) -> tuple[tuple[float | None, float | None], str]:
    """Seconds of a request to both as measured here, and how."""
    assert job.times is not None
    device, new_tokens = job.asking_device, job.recipe.new_tokens
    asked = inputs.reference_inputs(job.processor, job.request[0])
    by = told_by(device, asked, inputs.image_token_id(job.processor), new_tokens)
    found = times_of(
        job.times, job.config, plan.sha256, by,
        lambda: time_in_turns(
            (job.source, candidate.directory), asked, new_tokens, device,
            advance=lambda share: job.progress("evaluate", 0.9 + 0.1 * share),
        ),
    )  # fmt: skip
    return (found.original_s, found.compressed_s), found.told


def gather(
    job: Job, plan: Plan, scores: Mapping[Tower, list[LayerScores]], report: Report
) -> Evidence:
    """Everything that the exported report shows."""
    tried = job.work.load_json(SEARCH) if job.work.has(SEARCH) else ()
    return Evidence(
        report, plan, job.recipe, job.weights,
        details(job.specs, plan, scores, gates_of(job, plan)), tuple(tried),
    )  # fmt: skip


def count_flops(job: Job, towers: Mapping[Tower, tuple[PlannedLayer, ...]]) -> RequestFlops:
    """FLOPs of a request to the original (no towers) or to the planned model."""
    text_tokens, patches = job.request
    fixed = job.family.fixed_flops(job.config, patches)
    return request_flops(job.specs, towers, fixed, text_tokens=text_tokens)
