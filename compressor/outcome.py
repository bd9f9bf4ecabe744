"""What a compression came to: both models measured, and everything that its report shows."""

from __future__ import annotations

from collections.abc import Mapping

from compressor.checkpoint import Tower
from compressor.export import Candidate
from compressor.flops import RequestFlops, kv_values, request_flops
from compressor.inspect import count_parameters
from compressor.job import Job
from compressor.measure import evaluate_pair
from compressor.plan import Plan, PlannedLayer
from compressor.planning import planned_seconds
from compressor.report.data import Evidence, Report, Side, details
from compressor.scoring import LayerScores
from compressor.search import SEARCH


def evaluate(job: Job, plan: Plan, candidate: Candidate) -> Report:
    """Measure both models, from their files, on the same test questions."""
    accuracy = evaluate_pair(
        job.source, candidate.directory, job.processor, job.recipe.evaluation, job.recipe.seed,
        job.work, advance=lambda share: job.progress("evaluate", share),
    )  # fmt: skip
    sides = [
        Side(
            sum(count_parameters(p) for p in directory.glob("*.safetensors")),
            sum(p.stat().st_size for p in directory.glob("*.safetensors")),
            count_flops(job, towers),
            kv_values(job.specs, towers),
            measured,
            planned_seconds(job, towers),
        )
        for directory, towers, measured in (
            (job.source, {}, accuracy.original),
            (candidate.directory, plan.towers, accuracy.compressed),
        )
    ]
    return Report(
        job.source.name, sides[0], sides[1], accuracy.difference, job.recipe.seed,
        mean_difference=accuracy.mean_difference,
    )  # fmt: skip


def gather(
    job: Job, plan: Plan, scores: Mapping[Tower, list[LayerScores]], report: Report
) -> Evidence:
    """Everything that the exported report shows."""
    tried = job.work.load_json(SEARCH) if job.work.has(SEARCH) else ()
    return Evidence(
        report, plan, job.recipe, job.weights, details(job.specs, plan, scores), tuple(tried)
    )


def count_flops(job: Job, towers: Mapping[Tower, tuple[PlannedLayer, ...]]) -> RequestFlops:
    """FLOPs of a request to the original (no towers) or to the planned model."""
    text_tokens, patches = job.request
    fixed = job.family.fixed_flops(job.config, patches)
    return request_flops(job.specs, towers, fixed, text_tokens=text_tokens)
