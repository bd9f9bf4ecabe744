"""Baselines' changes to a model in memory: tensors really shrink, nothing else is fitted."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

from bench.compress.criteria import layers_of
from bench.compress.selection import Selection, planned
from bench.compress.signals import linear_paths
from compressor.costs import FlopsCost
from compressor.families import TowerSpec, leaf
from compressor.ffn import factor_linear
from compressor.flops import attention_flops, ffn_flops, keys_of, positions_of
from compressor.heads import head_rows, keep_columns, keep_rows, make_linear, prune_heads
from compressor.loading import linear_at, set_module
from compressor.moments import Moments
from compressor.scoring import effective_rank, whitened_energies

Ranks = dict[str, int | None]
"""Rank by module path; None = dense."""


def cut(
    model: nn.Module,
    specs: Sequence[TowerSpec],
    kept: Selection,
    *,
    means: Mapping[str, Moments] | None = None,
) -> None:
    """Cut groups and neurons in place; with `means` their mean output goes into biases (FLAP)."""
    towers = planned(specs, kept)
    for spec, index in layers_of(specs):
        block, attention = spec.blocks(model)[index], spec.attention
        assert attention is not None
        layer, path = towers[spec.name][index], spec.block_path(index)
        neurons = torch.tensor(kept[spec.name, index].neurons)
        queries = head_rows(layer.heads, spec.head_dim)
        if means is not None:
            for name, stay in ((attention.o, queries), (spec.ffn_output, neurons)):
                _add_mean(block, name, stay, means[f"{path}.{name}"])
        prune_heads(block, spec, attention, layer)
        for name in spec.ffn_inputs:
            keep_rows(block, name, neurons)
        keep_columns(block, spec.ffn_output, neurons)


def _add_mean(block: nn.Module, path: str, stay: Tensor, moments: Moments) -> None:
    """`b += W (mean(x) * removed)` (FLAP), with a bias where there was none."""
    old = linear_at(block, path)
    gone = (moments.gram[:-1, -1] / moments.gram[-1, -1]).clone()
    gone[stay] = 0
    bias = old.weight.data.double() @ gone
    if old.bias is not None:
        bias = bias + old.bias.data
    set_module(block, path, make_linear(old.weight.data, bias))


def factor(
    model: nn.Module,
    specs: Sequence[TowerSpec],
    ranks: Ranks,
    moments: Mapping[str, Moments] | None,
) -> None:
    """Factor linears in place: by plain SVD, or with `moments` whitened by their inputs (SVD-LLM)."""
    for spec in specs:
        for index, block in enumerate(spec.blocks(model)):
            for path in linear_paths(spec):
                name = f"{spec.block_path(index)}.{path}"
                if ranks[name] is None:
                    continue
                old = linear_at(block, path)
                weight = old.weight.data.double()
                bias = None if old.bias is None else old.bias.data.double()
                gram = torch.eye(weight.shape[1], dtype=torch.float64)
                if moments is not None:
                    gram = moments[name].gram[:-1, :-1]
                set_module(block, path, factor_linear(weight, bias, gram, ranks[name]))


def uniform_ranks(
    model: nn.Module, specs: Sequence[TowerSpec], cost: FlopsCost, share: float
) -> Ranks:
    """The same share of its elements for every matrix: `r = share m n / (m + n)`."""

    def at(ratio: float) -> Ranks:
        return {
            name: _rank(ratio * m * n / (m + n), m, n)
            for name, (m, n) in _shapes(model, specs).items()
        }

    return _fit(specs, at, cost, share)


def effective_ranks(
    model: nn.Module,
    specs: Sequence[TowerSpec],
    moments: Mapping[str, Moments],
    cost: FlopsCost,
    share: float,
) -> Ranks:
    """Ranks in proportion to the effective rank of each whitened matrix (after Swift-SVD)."""
    shapes = _shapes(model, specs)
    found = {
        name: effective_rank(
            whitened_energies(
                linear_at(model, name).weight.data, moments[name].gram[:-1, :-1]
            ).sqrt()
        )
        for name in shapes
    }

    def at(ratio: float) -> Ranks:
        # No effective rank exceeds min(m, n), so a ratio of up to n / erank is needed to reach it.
        return {name: _rank(ratio * 64 * found[name], m, n) for name, (m, n) in shapes.items()}

    return _fit(specs, at, cost, share)


def ranks_flops(specs: Sequence[TowerSpec], ranks: Ranks, cost: FlopsCost) -> float:
    """FLOPs of a prompt with every linear dense or factored."""
    total = cost.untouched
    for spec in specs:
        n = positions_of(spec, cost.fixed, cost.text_tokens)
        for index in range(spec.used_layers):
            if spec.attention is not None:
                keys = keys_of(spec, index, n)
                own = {
                    leaf(path): rank
                    for path in spec.projections
                    if (rank := ranks[f"{spec.block_path(index)}.{path}"]) is not None
                }
                total += attention_flops(spec, spec.heads, spec.kv_heads, own, queries=n, keys=keys)
            ffn = {leaf(path): ranks[f"{spec.block_path(index)}.{path}"] for path in spec.matrices}
            total += n * ffn_flops(spec, ffn, None)
    return total


def _shapes(model: nn.Module, specs: Sequence[TowerSpec]) -> dict[str, tuple[int, int]]:
    found = {}
    for spec in specs:
        for index in range(spec.used_layers):
            for path in linear_paths(spec):
                name = f"{spec.block_path(index)}.{path}"
                rows, columns = linear_at(model, name).weight.shape
                found[name] = (rows, columns)
    return found


def _rank(wanted: float, rows: int, columns: int) -> int | None:
    """At least 1; dense from break-even on."""
    rank = max(1, round(wanted))
    return None if rank >= rows * columns / (rows + columns) else rank


def _fit(
    specs: Sequence[TowerSpec], at: Callable[[float], Ranks], cost: FlopsCost, share: float
) -> Ranks:
    low, high = 0.0, 1.0
    original = ranks_flops(specs, dict.fromkeys(at(0.0)), cost)
    for _ in range(40):
        middle = (low + high) / 2
        if ranks_flops(specs, at(middle), cost) <= share * original:
            low = middle
        else:
            high = middle
    return at(low)
