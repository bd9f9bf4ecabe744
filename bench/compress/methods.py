"""The methods that are compared, by name; each makes a model that meets a share of the FLOPs."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

import torch
from torch import nn

from bench.compress import criteria, orders, selection, surgery
from bench.compress.context import Context
from bench.compress.criteria import Ranking
from bench.compress.orders import Order
from bench.compress.selection import Selection
from compressor.checkpoint import Tower
from compressor.loading import assemble
from compressor.moments import Moments
from compressor.pipeline import heal, prune
from compressor.planning import make, reordered
from compressor.scoring import LayerScores
from compressor.work import digest

Kind = Literal["heads and neurons", "low rank", "both"]


@dataclass(frozen=True)
class Made:
    """A compressed model and its FLOPs as a share of the original's."""

    model: nn.Module
    share: float


@dataclass(frozen=True)
class Method:
    """One way to compress."""

    name: str
    kind: Kind
    what: str
    make: Callable[[Context, float], Made]
    seeds_matter: bool = True
    """Whether another seed (of data and draws) gives another model."""
    revision: int = 1
    """Goes up when a change of code gives another model; cells of an earlier one do not count."""


def _structured(
    rank: Callable[[Context], Ranking],
    select: Callable[..., Selection],
    *,
    biases: bool = False,
) -> Callable[[Context, float], Made]:
    def build(context: Context, share: float) -> Made:
        kept = select(context.specs, rank(context), context.cost, share)
        model = context.model()
        surgery.cut(model, context.specs, kept, means=context.moments if biases else None)
        return Made(model, selection.share_of(context.specs, kept, context.cost))

    return build


def _low_rank(
    *, whitened: bool, adaptive: bool, answers: bool = False
) -> Callable[[Context, float], Made]:
    def build(context: Context, share: float) -> Made:
        model, specs, cost = context.model(), context.specs, context.cost

        def moments() -> dict[str, Moments]:  # asked for late: plain SVD needs none
            return context.answer_moments if answers else context.moments

        ranks = (
            surgery.effective_ranks(model, specs, moments(), cost, share)
            if adaptive
            else surgery.uniform_ranks(model, specs, cost, share)
        )
        surgery.factor(model, specs, ranks, moments() if whitened else None)
        dense = surgery.ranks_flops(specs, dict.fromkeys(ranks), cost)
        return Made(model, surgery.ranks_flops(specs, ranks, cost) / dense)

    return build


def _ours(
    *, order: Order | None = None, compensate: bool = True, **recipe: Any
) -> Callable[[Context, float], Made]:
    """Our pipeline, with a recipe's options, or with heads in another order."""

    def build(context: Context, share: float) -> Made:
        asked = context.recipe(flops=share, **recipe)
        if not compensate:  # no recipe may ask for that: it is W_0 as it is
            asked = asked.model_copy(update={"ridge": math.inf})
        job = replace(context.job, recipe=asked)
        scores = dict(context.scores)
        if order is not None:
            scores = {t: _reordered(context, t, layers, order) for t, layers in scores.items()}
        plan = make(job, scores, "flops", share)
        work = job.work.sub(
            f"plan-{plan.sha256[:12]}-{digest({**recipe, 'compensate': compensate})[:12]}"
        )
        candidate = heal(job, plan, prune(job, plan, work), work)
        model = assemble(candidate.directory, torch.float32)
        work.remove()
        return Made(model, plan.planned)

    return build


def _reordered(
    context: Context, tower: Tower, layers: list[LayerScores], order: Order
) -> list[LayerScores]:
    """The scores of a tower with its heads in another order, and what that order loses."""
    spec = next(s for s in context.specs if s.name == tower)
    if spec.attention is None:
        return layers
    found = []
    for index, layer in enumerate(layers):
        ranked = order(context, spec, index, layer)
        found.append(reordered(context.job, spec, index, layer, ranked))
    return found


def _baselines() -> tuple[Method, ...]:
    heads: Kind = "heads and neurons"
    return (
        Method(
            "random", heads, "noise; the same ratio in every layer",
            _structured(lambda c: criteria.random(c.specs, c.seed), selection.uniform),
            revision=2,
        ),
        Method(
            "magnitude", heads, "squared weights; the same ratio in every layer",
            _structured(lambda c: criteria.magnitude(c.model(), c.specs), selection.uniform),
            seeds_matter=False, revision=2,
        ),
        Method(
            "taylor", heads, "first-order effect (Michel et al.); least per FLOP first, globally",
            _structured(lambda c: criteria.taylor(c.signals), selection.per_cost), revision=2,
        ),
        Method(
            "entropy", heads, "widest attention goes first, over a tower's layers; neurons: Taylor",
            _structured(lambda c: criteria.entropy(c.signals), selection.heads_over_layers),
            revision=2,
        ),
        Method(
            "hies", heads, "gradient and attention entropy joined (HIES); neurons: Taylor",
            _structured(lambda c: criteria.hies(c.signals), selection.heads_over_layers),
            revision=2,
        ),
        Method(
            "flap", heads, "standardised fluctuation, one threshold, biases (FLAP)",
            _structured(
                lambda c: criteria.flap(c.model(), c.specs, c.moments), selection.threshold,
                biases=True,
            ),
        ),
        Method(
            "svd", "low rank", "plain SVD of every linear, the same ratio",
            _low_rank(whitened=False, adaptive=False), seeds_matter=False,
        ),
        Method(
            "svd-llm", "low rank", "whitened SVD of every linear, the same ratio (SVD-LLM)",
            _low_rank(whitened=True, adaptive=False),
        ),
        Method(
            "swift-svd", "low rank", "whitened SVD, ranks by effective rank (after Swift-SVD)",
            _low_rank(whitened=True, adaptive=True),
        ),
    )  # fmt: skip


def _own() -> tuple[Method, ...]:
    return (
        Method("ours", "both", "InfoPrune, training-free", _ours()),
        Method(
            "ours-trained", "both", "InfoPrune, heads by trained gates", _ours(scheme="trained")
        ),
    )


def _ablations() -> tuple[Method, ...]:
    kind: Kind = "both"
    whole = partial(_ours, low_rank_attention=False)
    trained = partial(_ours, scheme="trained")
    made = (
        ("ours/exact", "exact knapsack instead of greedy", _ours(allocation="exact")),
        ("ours/uniform", "uniform layout", _ours(layout="uniform")),
        ("heads", "ours, attention by whole heads only: what heads' order decides", whole()),
        ("heads/ks", "order by KS distance alone", whole(order=orders.by_ks)),
        ("heads/erank", "order by effective rank alone", whole(order=orders.by_rank)),
        ("heads/ks-over-erank", "the effective rank's sign turned", whole(order=orders.sparse_first)),
        ("heads/erank-over-ks", "the KS distance's sign turned", whole(order=orders.by_rank_and_small)),
        ("heads/reversed", "both turned: the most informative go first",
         whole(order=orders.reversed_score)),
        ("heads/unique", "scores of what only a head writes", whole(order=orders.unique)),
        ("heads/chance", "a random order", whole(order=orders.chance)),
        ("ours-trained/no-erank", "gates without the redundancy of effective rank",
         trained(training={"beta": 0.0})),
        ("ours-trained/no-ks", "gates without the alignment of KS distance",
         trained(training={"gamma": 0.0})),
    )  # fmt: skip
    return (
        *(Method(name, kind, what, build) for name, what, build in made),
        Method("ours/no-compensation", kind, "nothing is fitted to what was cut",
               _ours(compensate=False), revision=2),
        Method("heads/taylor", kind, "order by first-order effect", whole(order=orders.taylor),
               revision=2),
        Method(
            "svd-llm/answers", "low rank", "`svd-llm` with our weights of tokens",
            _low_rank(whitened=True, adaptive=False, answers=True),
        ),
        Method(
            "swift-svd/answers", "low rank", "`swift-svd` with our weights of tokens",
            _low_rank(whitened=True, adaptive=True, answers=True),
        ),
        Method(
            "entropy/reversed", "heads and neurons", "narrowest attention goes first",
            _structured(
                lambda c: criteria.entropy(c.signals, low_goes_first=True),
                selection.heads_over_layers,
            ),
            revision=2,
        ),
    )  # fmt: skip


CONTROL = Method(
    "original", "both", "nothing cut: what the recovery's questions teach by themselves",
    lambda context, share: Made(context.model(), 1.0),
)  # fmt: skip
BASELINES = _baselines()
OWN = _own()
ABLATIONS = _ablations()
METHODS = {m.name: m for m in (*BASELINES, *OWN, *ABLATIONS, CONTROL)}
