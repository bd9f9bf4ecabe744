"""A plan of one model as the shapes of another: the same shares at the same relative depth. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from compressor.checkpoint import LayerShape, Tower
from compressor.families import TowerSpec


def transfer(
    towers: Mapping[Tower, Sequence[LayerShape]],
    source: Sequence[TowerSpec],
    target: Sequence[TowerSpec],
    round_to: int,
) -> dict[Tower, tuple[LayerShape, ...]]:
    """The shapes of the target's layers.

    Layer i of n takes the shares of the source's layer at depth (i + 1/2) / n: of KV groups, of the
    FFN's width, and of each matrix's break-even rank `m n / (m + n)`, so that a factored matrix keeps
    its share of FLOPs. Widths and ranks are rounded to multiples of `round_to`.
    """
    sources = {spec.name: spec for spec in source}
    found: dict[Tower, tuple[LayerShape, ...]] = {}
    for spec in target:
        layers = towers.get(spec.name)
        if not layers:
            continue
        count = spec.used_layers
        found[spec.name] = tuple(
            _shape(layers[int((i + 0.5) / count * len(layers))], sources[spec.name], spec, round_to)
            for i in range(count)
        )
    return found


def _shape(layer: LayerShape, source: TowerSpec, target: TowerSpec, round_to: int) -> LayerShape:
    groups = 0
    if target.kv_heads:
        groups = max(1, round(len(layer.kv_heads) / source.kv_heads * target.kv_heads))
    width = None
    if layer.ffn_width is not None:
        share = layer.ffn_width / source.ffn_width
        width = min(_rounded(share * target.ffn_width, round_to), target.ffn_width)
    # By the towers' own order: a plan that was read from a file has its names sorted.
    names = zip(source.ffn_names, target.ffn_names, strict=True)
    ranks: dict[str, int | None] = {}
    for ours, theirs in names:
        rank = layer.ranks.get(ours)
        if rank is not None:
            share = rank / _break_even(source.matrix_shape(ours, layer.ffn_width))
            rank = _rounded(share * _break_even(target.matrix_shape(theirs, width)), round_to)
        ranks[theirs] = rank
    return LayerShape(
        heads=tuple(range(groups * target.group)),
        kv_heads=tuple(range(groups)),
        ranks=ranks,
        ffn_width=None if width == target.ffn_width else width,
        attention_ranks=_attention_ranks(layer, source, target, groups, round_to),
    )


def _attention_ranks(
    layer: LayerShape, source: TowerSpec, target: TowerSpec, groups: int, round_to: int
) -> dict[str, int]:
    ours = source.projection_shapes(len(layer.heads), len(layer.kv_heads), joint=True)
    theirs = target.projection_shapes(groups * target.group, groups, joint=True)
    return {
        name: _rounded(
            layer.attention_ranks[own] / _break_even(ours[own]) * _break_even(theirs[name]),
            round_to,
        )
        for own, name in zip(ours, theirs, strict=True)
        if own in layer.attention_ranks and name in target.factored
    }


def _rounded(value: float, multiple: int) -> int:
    return max(multiple, round(value / multiple) * multiple)


def _break_even(shape: tuple[int, int]) -> float:
    rows, columns = shape
    return rows * columns / (rows + columns)
