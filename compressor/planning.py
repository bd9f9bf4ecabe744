"""Make the plan of a job: cost model, allocation, and the learned gates of the trained scheme."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from compressor import gates, inputs
from compressor.allocation import allocate, allocate_exact
from compressor.calibrate import LayerStatistics
from compressor.checkpoint import LayerShape, Tower
from compressor.costs import Cost, FlopsCost, ParamsCost, shapes_cost
from compressor.errors import BudgetError, LatencyError
from compressor.families import TowerSpec
from compressor.job import Job, statistics_piece
from compressor.latency.table import LatencyCost, LatencyTable
from compressor.loading import assemble, linear_at
from compressor.plan import Plan, TargetKind, make_plan
from compressor.scoring import LayerScores, attention_losses, group_columns
from compressor.training import Batches

_TABLE = "latency.json"


def make(
    job: Job, scores: Mapping[Tower, list[LayerScores]], target: TargetKind, share: float
) -> Plan:
    """The plan for a share of the original's cost in the target's unit, by the recipe's scheme.

    In the trained scheme the gates get the budget that whole heads would get if there were no ranks in
    attention; what they close is settled, and everything else is allocated around it. Where heads alone
    cannot reach the share, the gates get as many heads as stay when ranks help.

    Raises:
        BudgetError: the share cannot be reached; the message says what can.
    """
    cost = cost_model(job, target)
    low_rank = job.recipe.low_rank_attention
    if job.recipe.scheme == "training-free":
        return _allocated(job, scores, cost, target, share, low_rank_attention=low_rank)
    try:
        guide = _allocated(job, scores, cost, target, share, low_rank_attention=False)
    except BudgetError:
        if not low_rank:
            raise
        guide = _allocated(job, scores, cost, target, share, low_rank_attention=True)
    settled, gates_open = _settled(job, scores, guide, cost)
    plan = _allocated(job, settled, cost, target, share, low_rank_attention=low_rank)
    job.work.save_json(_gates_piece(plan), gates_open)
    return plan


def gates_of(job: Job, plan: Plan) -> dict[Tower, list[list[float]]]:
    """[layer][KV group] of each tower: how likely its learned gate is open; {} without gates."""
    piece = _gates_piece(plan)
    return job.work.load_json(piece) if job.work.has(piece) else {}


def _gates_piece(plan: Plan) -> str:
    """The name of the piece that holds what was learned for a plan."""
    return f"gates/plan-{plan.sha256[:16]}.json"


def _allocated(
    job: Job,
    scores: Mapping[Tower, list[LayerScores]],
    cost: Cost,
    target: TargetKind,
    share: float,
    *,
    low_rank_attention: bool,
) -> Plan:
    return make_plan(
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
        low_rank_attention=low_rank_attention,
    )


def _settled(
    job: Job, scores: Mapping[Tower, list[LayerScores]], plan: Plan, cost: Cost
) -> tuple[dict[Tower, list[LayerScores]], dict[Tower, list[list[float]]]]:
    """The scores with each layer's heads in the order of learned gates, and how many of them go.

    And how far each gate is open, see `gates_of`.
    """
    layers = gates.gated_layers(job.specs, scores, lambda spec, i: _energies(job, spec, i), cost)
    budget = sum(
        layer.cost * len(plan.towers[layer.spec.name][layer.index].kv_heads) for layer in layers
    )
    name = f"gates/{plan.sha256[:16]}.safetensors"
    if not job.work.has(name):
        learned = learn_gates(job, layers, budget)
        job.work.save_tensors(name, {str(i): alpha for i, alpha in enumerate(learned)})
    tensors = job.work.load_tensors(name)
    alphas = [tensors[str(i)] for i in range(len(layers))]
    found: dict[Tower, list[LayerScores]] = {tower: list(own) for tower, own in scores.items()}
    opened: dict[Tower, list[list[float]]] = {}
    kept = gates.kept_groups(layers, alphas, budget)
    for layer, alpha, groups in zip(layers, alphas, kept, strict=True):
        spec, index = layer.spec, layer.index
        ordered = reordered(job, spec, index, scores[spec.name][index], gates.order_of(alpha))
        gone = spec.kv_heads - len(groups) if job.recipe.layout == "adaptive" else None
        found[spec.name][index] = replace(ordered, gone=gone)
        opened.setdefault(spec.name, []).append(gates.open_probability(alpha).tolist())
    return found, opened


def reordered(
    job: Job, spec: TowerSpec, index: int, layer: LayerScores, order: tuple[int, ...]
) -> LayerScores:
    """The scores of a layer whose groups go in another order, with what that order loses."""
    output, statistics = attention_output(job, spec, index)
    losses = attention_losses(
        output, statistics.heads, group_columns(spec), order,
        max(statistics.residual_energy, 1e-30),
    )  # fmt: skip
    return replace(layer, order=order, attention_loss=tuple(losses))


def attention_output(job: Job, spec: TowerSpec, index: int) -> tuple[Tensor, LayerStatistics]:
    """The output matrix of a layer's attention, and what was calibrated of the layer."""
    assert spec.attention is not None
    statistics = LayerStatistics.of_tensors(job.work.load_tensors(statistics_piece(spec, index)))
    return linear_at(job.model.block(spec, index), spec.attention.o).weight.data.cpu(), statistics


def learn_gates(job: Job, layers: list[gates.GatedLayer], budget: float) -> list[Tensor]:
    """Train the gates for an attention budget; the whole model is in memory."""
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
    return gates.train_gates(
        assemble(job.source, torch.float32).to(job.device), layers, batches, job.recipe.training,
        budget, seed=job.recipe.seed, advance=lambda share: job.progress("plan", 0.99 * share),
    )  # fmt: skip


def _energies(job: Job, spec: TowerSpec, index: int) -> Tensor:
    """What `gates.GatedLayer.energies` holds, from the calibrated covariance."""
    weight, statistics = attention_output(job, spec, index)
    return gates.spectral_energies(weight, statistics.heads, group_columns(spec))


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


def has_table(job: Job) -> bool:
    """Whether the job plans by a table: not with another target, nor where a plan is replayed."""
    return job.work.has(_TABLE)


def planned_seconds(job: Job, towers: Mapping[Tower, Sequence[LayerShape]]) -> float:
    """Seconds of the reference request by the job's table, for towers of the given shapes."""
    return shapes_cost(job.specs, towers, cost_model(job, "latency"))
