"""Make the plan of a job: cost model, allocation, and the learned gates of the trained scheme."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from compressor import gates, inputs
from compressor.allocation import allocate, allocate_exact
from compressor.checkpoint import LayerShape, Tower
from compressor.costs import Cost, FlopsCost, ParamsCost, shapes_cost
from compressor.errors import LatencyError
from compressor.families import TowerSpec
from compressor.job import Job, statistics_piece
from compressor.latency.table import LatencyCost, LatencyTable
from compressor.loading import assemble, linear_at
from compressor.plan import Plan, TargetKind, make_plan
from compressor.scoring import LayerScores, group_columns
from compressor.training import Batches

_TABLE = "latency.json"


def make(
    job: Job, scores: Mapping[Tower, list[LayerScores]], target: TargetKind, share: float
) -> Plan:
    """The plan for a share of the original's cost in the target's unit, by the recipe's scheme."""
    cost = cost_model(job, target)
    plan = make_plan(
        job.specs,
        scores,
        cost,
        architecture=job.family.architecture,
        target=target,
        share=share,
        request=job.request,
        round_to=job.recipe.round_to,
        layout=job.recipe.layout,
        allocator=allocate if job.recipe.allocation == "greedy" else allocate_exact,
        # Gates close whole groups of dense attentions.
        low_rank_attention=job.recipe.scheme == "training-free",
    )
    if job.recipe.scheme == "training-free":
        return plan
    name = f"gates/{plan.sha256[:16]}.safetensors"
    layers = gates.gated_layers(job.specs, scores, lambda spec, i: _energies(job, spec, i), cost)
    if not job.work.has(name):
        alphas = learn_gates(job, plan, layers)
        job.work.save_tensors(name, {str(i): alpha for i, alpha in enumerate(alphas)})
    learned = job.work.load_tensors(name)
    return gates.cut(plan, job.specs, layers, [learned[str(i)] for i in range(len(layers))], cost)


def learn_gates(job: Job, plan: Plan, layers: list[gates.GatedLayer]) -> list[Tensor]:
    """Train the gates for the attention budget of a plan; the whole model is in memory."""
    batches = Batches(
        job.processor,
        inputs.mixture(
            job.recipe.calibration.datasets,
            samples=job.recipe.calibration.samples,
            seed=job.recipe.seed,
        ),
        batch=job.recipe.training.batch,
        seed=job.recipe.seed,
        device=job.device,
    )
    budget = sum(
        layer.cost * len(plan.towers[layer.spec.name][layer.index].kv_heads) for layer in layers
    )
    return gates.train_gates(
        assemble(job.source, torch.float32).to(job.device), layers, batches, job.recipe.training,
        budget, seed=job.recipe.seed, advance=lambda share: job.progress("plan", 0.99 * share),
    )  # fmt: skip


def _energies(job: Job, spec: TowerSpec, index: int) -> Tensor:
    """What `gates.GatedLayer.energies` holds, from the calibrated covariance."""
    assert spec.attention is not None
    covariance = job.work.load_tensors(statistics_piece(spec, index))["heads"]
    weight = linear_at(job.model.block(spec, index), spec.attention.o).weight.data.cpu()
    return gates.spectral_energies(weight, covariance, group_columns(spec))


def cost_model(job: Job, target: TargetKind) -> Cost:
    """The unit of a budget for this model."""
    if target == "latency":
        return LatencyCost(latency_table(job), job.specs, job.recipe.new_tokens)
    flops = FlopsCost(job.family.fixed_flops(job.config, job.request[1]), job.request[0])
    if target != "params":
        return flops
    total = sum(p.numel() for p in job.model.model.parameters())
    return ParamsCost(total - shapes_cost(job.specs, {}, ParamsCost(0.0)))


def latency_table(job: Job) -> LatencyTable:
    """The measured table, kept with the job's pieces: a resumed job plans by the same times.

    Raises:
        LatencyError: nobody can measure here, or the measurement failed.
    """
    if not job.work.has(_TABLE):
        if job.measure_latency is None:
            raise LatencyError(
                "The target latency needs times measured in vLLM, and nothing here can measure them; "
                "compress with the command infoprune compress, or make the table with infoprune "
                "latency and pass it on."
            )
        measured = job.measure_latency(job.source, lambda share: job.progress("plan", 0.9 * share))
        job.work.save_json(_TABLE, measured.model_dump(mode="json"))
    return LatencyTable.model_validate(job.work.load_json(_TABLE))


def planned_seconds(job: Job, towers: Mapping[Tower, Sequence[LayerShape]]) -> float | None:
    """Seconds of the reference request by the table, for towers of the given shapes.

    None where the job did not plan by a table: another target, or a replayed plan.
    """
    if not job.work.has(_TABLE):
        return None
    return shapes_cost(job.specs, towers, cost_model(job, "latency"))
