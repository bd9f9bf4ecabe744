"""FLOPs of one request by the project's convention: 1 MAC = 2 FLOPs.

Counted: every matrix product, SwiGLU's three matrices, GQA's real k/v widths, attention as
`2 * 2 * n * keys * heads * head_dim` (scores and values, not halved for causality; `keys` is the
window's size in a windowed layer). Left out: biases, norms, softmax, rotary embedding. The number of
visual and text tokens always goes with the figure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from compressor.checkpoint import QKV, LayerShape, Tower
from compressor.families.base import FixedFlops, TowerSpec


@dataclass(frozen=True)
class RequestFlops:
    """FLOPs of one request with one image and `text_tokens` tokens of text in its prompt."""

    vision: float
    projector: float
    prefill: float
    decode_token: float
    """One token decoded after the prompt, cache included."""
    visual_tokens: int
    text_tokens: int

    @property
    def prompt(self) -> float:
        """What a `flops` budget counts: all that is done before the first token."""
        return self.vision + self.projector + self.prefill

    def to_json(self) -> dict[str, float]:
        """The fields, for reports."""
        return asdict(self)


def attention_flops(
    spec: TowerSpec, heads: int, kv_heads: int, ranks: Mapping[str, int], *, queries: int, keys: int
) -> float:
    """One layer's attention for `queries` new positions that see `keys` positions.

    `ranks` names the matrices that are factored.
    """
    projections = projection_flops(spec, heads, kv_heads, ranks)
    return queries * projections + 2.0 * 2.0 * queries * keys * heads * spec.head_dim


def projection_flops(spec: TowerSpec, heads: int, kv_heads: int, ranks: Mapping[str, int]) -> float:
    """One layer's q, k, v and output for one position; `ranks` names what is factored."""
    shapes = spec.projection_shapes(heads, kv_heads, joint=QKV in ranks)
    return sum(matrix_flops(shape, ranks.get(name)) for name, shape in shapes.items())


def matrix_flops(shape: tuple[int, int], rank: int | None) -> float:
    """One matrix for one position, dense (rank None) or factored."""
    rows, columns = shape
    return 2.0 * rows * columns if rank is None else 2.0 * rank * (rows + columns)


def ffn_flops(spec: TowerSpec, ranks: Mapping[str, int | None], ffn_width: int | None) -> float:
    """One layer's FFN for one position."""
    return sum(matrix_flops(spec.matrix_shape(m, ffn_width), rank) for m, rank in ranks.items())


def keys_of(spec: TowerSpec, layer: int, positions: int) -> int:
    """How many of `positions` a position of the layer attends to."""
    window = spec.windows[layer] if spec.windows else None
    return positions if window is None else min(window, positions)


def layer_flops(
    spec: TowerSpec, layer: int, shape: LayerShape, *, queries: int, keys: int
) -> float:
    """One transformer layer."""
    attention = attention_flops(
        spec,
        len(shape.heads),
        len(shape.kv_heads),
        shape.attention_ranks,
        queries=queries,
        keys=keys_of(spec, layer, keys),
    )
    return attention + queries * ffn_flops(spec, shape.ranks, shape.ffn_width)


def positions_of(spec: TowerSpec, fixed: FixedFlops, text_tokens: int) -> int:
    """Positions that a tower computes for one prompt with one image."""
    if spec.name == "vision":
        return fixed.vision_positions
    return fixed.visual_tokens + (text_tokens if spec.name == "language" else 0)


def kv_values(specs: Sequence[TowerSpec], shapes: Mapping[Tower, Sequence[LayerShape]]) -> int:
    """Numbers in the language model's KV cache for a position (a tower that is absent is dense).

    Keys and values of every KV head that stays; low rank changes nothing here.
    """
    return sum(
        2 * spec.head_dim * len(shape.kv_heads)
        for spec in specs
        if spec.name == "language"
        for shape in shapes.get(spec.name) or [spec.dense_layer()] * spec.used_layers
    )


def request_flops(
    specs: Sequence[TowerSpec],
    shapes: Mapping[Tower, Sequence[LayerShape]],
    fixed: FixedFlops,
    *,
    text_tokens: int,
) -> RequestFlops:
    """FLOPs of a request, for towers of the given shapes (a tower that is absent is dense)."""
    totals: dict[str, float] = {"vision": fixed.patch_embedding, "projector": 0.0}
    totals |= {"language": fixed.lm_head, "decode": fixed.lm_head}
    for spec in specs:
        layers = list(enumerate(shapes.get(spec.name) or [spec.dense_layer()] * spec.used_layers))
        n = positions_of(spec, fixed, text_tokens)
        totals[spec.name] += sum(layer_flops(spec, i, s, queries=n, keys=n) for i, s in layers)
        if spec.name == "language":
            totals["decode"] += sum(
                layer_flops(spec, i, s, queries=1, keys=n + 1) for i, s in layers
            )
    return RequestFlops(
        vision=totals["vision"],
        projector=totals["projector"],
        prefill=totals["language"],
        decode_token=totals["decode"],
        visual_tokens=fixed.visual_tokens,
        text_tokens=text_tokens,
    )
