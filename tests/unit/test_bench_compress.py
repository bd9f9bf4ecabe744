"""The harness that compares methods: budgets are met, tensors shrink, signals are what they say."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

from bench.compress import criteria, selection, surgery
from bench.compress.__main__ import changed_by
from bench.compress.criteria import Ranking
from bench.compress.selection import Selection
from bench.compress.signals import collect_moments, collect_signals
from bench.compress.tables import Row, ablation_table, accuracy_table
from compressor.costs import FlopsCost
from compressor.errors import BudgetError
from compressor.families import TowerSpec
from compressor.inputs import mixture, prepare
from compressor.job import Job, open_job
from compressor.loading import assemble
from compressor.planning import cost_model
from compressor.recipe import parse_recipe
from compressor.training import batch_of
from tests.support.random_vlm import write_random_vlm

Select = Callable[[tuple[TowerSpec, ...], Ranking, FlopsCost, float], Selection]


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Job:
    path = tmp_path_factory.mktemp("model") / "random"
    write_random_vlm(path, "clip-mistral")
    return open_job(path, parse_recipe({"flops": 0.5}), path.parent / "out")


@pytest.fixture(scope="module")
def cost(job: Job) -> FlopsCost:
    found = cost_model(job, "flops")
    assert isinstance(found, FlopsCost)
    return found


SELECTIONS: dict[str, Select] = {
    "uniform": selection.uniform,
    "heads over layers": selection.heads_over_layers,
    "threshold": selection.threshold,
    "per cost": selection.per_cost,
}


@pytest.mark.parametrize("name", SELECTIONS)
@pytest.mark.parametrize("share", [0.5, 0.75])
def test_a_selection_meets_its_budget_and_the_model_runs(
    name: str, share: float, job: Job, cost: FlopsCost
) -> None:
    ranking = criteria.random(job.specs, seed=1)
    kept = SELECTIONS[name](job.specs, ranking, cost, share)
    assert 0.75 * share < selection.share_of(job.specs, kept, cost) <= share
    assert all(each.groups and each.neurons for each in kept.values())
    model: Any = assemble(job.source, torch.float32)
    before = sum(p.numel() for p in model.parameters())
    surgery.cut(model, job.specs, kept)
    assert sum(p.numel() for p in model.parameters()) < before
    batch = prepare(job.processor, mixture(["easy-vqa"], samples=2, seed=0))[0]
    assert torch.isfinite(model(**batch).logits).all()


def test_a_budget_below_the_smallest_selection_is_refused(job: Job, cost: FlopsCost) -> None:
    with pytest.raises(BudgetError):
        selection.uniform(job.specs, criteria.random(job.specs, seed=0), cost, 0.01)


@pytest.mark.parametrize("adaptive", [False, True])
def test_ranks_meet_the_budget_and_factors_are_smaller(
    adaptive: bool, job: Job, cost: FlopsCost
) -> None:
    model: Any = assemble(job.source, torch.float32)
    batches = prepare(job.processor, mixture(["easy-vqa"], samples=4, seed=0))
    moments = collect_moments(model, job.specs, batches)
    ranks = (
        surgery.effective_ranks(model, job.specs, moments, cost, 0.6)
        if adaptive
        else surgery.uniform_ranks(model, job.specs, cost, 0.6)
    )
    dense = surgery.ranks_flops(job.specs, dict.fromkeys(ranks), cost)
    assert 0.55 < surgery.ranks_flops(job.specs, ranks, cost) / dense <= 0.6
    before = sum(p.numel() for p in model.parameters())
    surgery.factor(model, job.specs, ranks, moments)
    assert sum(p.numel() for p in model.parameters()) < before
    assert torch.isfinite(model(**batches[0]).logits).all()


def test_whitening_keeps_outputs_nearer_than_plain_svd(job: Job, cost: FlopsCost) -> None:
    model: Any = assemble(job.source, torch.float32)
    batches = prepare(job.processor, mixture(["easy-vqa"], samples=32, seed=0))
    moments = collect_moments(model, job.specs, batches)
    ranks = surgery.uniform_ranks(model, job.specs, cost, 0.6)
    name = "model.language_model.layers.0.mlp.down_proj"
    weight = model.get_submodule(name).weight.data.double()
    gram = moments[name].gram[:-1, :-1]
    losses = []
    for given in (None, moments):
        changed: Any = copy.deepcopy(model)
        surgery.factor(changed, job.specs, ranks, given)
        layer = changed.get_submodule(name)
        gap = weight - layer.out_factor.weight.double() @ layer.in_factor.weight.double()
        losses.append(float(((gap @ gram) * gap).sum()))
    assert losses[1] < losses[0]


def test_signals_follow_the_loss(job: Job) -> None:
    """A group whose output matrix is zero has no first-order effect; its entropy stays."""
    model: Any = assemble(job.source, torch.float32)
    spec = next(s for s in job.specs if s.name == "language")
    block: Any = spec.blocks(model)[2]
    rows = spec.group * spec.head_dim
    block.get_submodule("self_attn.o_proj").weight.data[:, rows : 2 * rows] = 0
    model.set_attn_implementation("eager")
    pool = mixture(["easy-vqa"], samples=8, seed=0)
    batches = [batch_of(job.processor, pool[i : i + 4], torch.device("cpu")) for i in (0, 4)]
    found = collect_signals(model, job.specs, batches)
    layer = found["language", 2]
    assert layer.group_taylor[1] == 0
    assert layer.group_taylor[0] > 0
    assert (layer.entropy > 0).all()
    assert layer.neuron_taylor.shape == (spec.ffn_width,)


def test_flap_biases_keep_the_mean_output(job: Job, cost: FlopsCost) -> None:
    model: Any = assemble(job.source, torch.float32)
    batches = prepare(job.processor, mixture(["easy-vqa"], samples=8, seed=0))
    moments = collect_moments(model, job.specs, batches)
    kept = selection.threshold(job.specs, criteria.flap(model, job.specs, moments), cost, 0.7)
    neurons = list(kept["language", 0].neurons)
    path = "model.language_model.layers.0.mlp.down_proj"
    mean = moments[path].gram[:-1, -1] / moments[path].gram[-1, -1]
    before = model.get_submodule(path).weight.data.double() @ mean
    surgery.cut(model, job.specs, kept, means=moments)
    layer = model.get_submodule(path)
    after = layer.weight.data.double() @ mean[neurons] + layer.bias.data
    torch.testing.assert_close(after, before, atol=1e-5, rtol=1e-4)


def test_weights_of_tokens_change_the_language_model_s_moments_only(job: Job) -> None:
    batches, weights = job.data
    model = assemble(job.source, torch.float32)
    alike = collect_moments(model, job.specs, batches)
    weighted = collect_moments(model, job.specs, batches, weights)
    for name, moments in alike.items():
        scale = moments.gram[-1, -1] / weighted[name].gram[-1, -1]
        same = torch.allclose(moments.gram, weighted[name].gram * scale, rtol=1e-6)
        assert same == (not name.startswith("model.language_model")), name


def row(method: str, scores: dict[int, list[float]]) -> Row:
    """A method's row at 2x on one dataset: what each question scored, by seed."""
    means = {seed: sum(own) / len(own) for seed, own in scores.items()}
    mean = sum(means.values()) / len(means) if means else float("nan")
    by_dataset = {seed: {"a": own} for seed, own in scores.items()}
    share = 0.5 if scores else None
    return Row(method, 2.0, False, share, {"a": mean}, mean, means, None, 1.0, by_dataset)


PICTURES = {"a": [str(number) for number in range(40)]}


def test_the_table_marks_the_best_and_what_questions_cannot_tell_from_it_and_who_cannot() -> None:
    rows = [
        row("ours", {0: [1.0] * 36 + [0.0] * 4, 1: [1.0] * 36 + [0.0] * 4}),
        row("taylor", {0: [1.0] * 28 + [0.0] * 12}),
        row("random", {0: [1.0] * 10 + [0.0] * 30, 1: [1.0] * 20 + [0.0] * 20}),
        row("svd", {}),
    ]
    names = ["ours", "taylor", "random", "svd", "flap"]
    lines = accuracy_table(rows, names, [2.0], PICTURES).splitlines()[2:]
    assert [line.split("|")[2].strip() for line in lines] == [
        "**90.0** (90.0-90.0)", "70.0", "37.5 (25.0-50.0)", "cannot", "-",
    ]  # fmt: skip
    near = [rows[0], row("taylor", {0: [0.0] + [1.0] * 36 + [0.0] * 3})]
    lines = accuracy_table(near, ["ours", "taylor"], [2.0], PICTURES).splitlines()[2:]
    assert lines[1].split("|")[2].strip() == "**90.0**"


def test_an_ablation_is_compared_with_what_it_changes_on_the_same_seed_and_questions() -> None:
    rows = [row("heads", {0: [1.0] * 40}), row("heads/ks", {0: [1.0] * 36 + [0.0] * 4})]
    (line,) = ablation_table(rows, {"heads/ks": "heads"}, [2.0], PICTURES).splitlines()[2:]
    shown = line.split("|")[3].strip()
    assert shown.startswith("90.0: -10.00 [-20.00, ")
    assert changed_by("heads") == "ours"
    assert changed_by("heads/ks") == "heads"


def test_what_groups_leave_of_the_budget_goes_to_neurons(job: Job, cost: FlopsCost) -> None:
    ranking = criteria.random(job.specs, seed=1)
    kept = selection.uniform(job.specs, ranking, cost, 0.6)
    wider = {
        key: replace(each, neurons=tuple(range(len(each.neurons) + selection.ROUND_TO)))
        for key, each in kept.items()
    }
    assert selection.share_of(job.specs, kept, cost) <= 0.6
    assert selection.share_of(job.specs, wider, cost) > 0.6
