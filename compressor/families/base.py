"""What a family tells the rest of the compressor: where heads and FFNs are, and how large."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from torch import nn

from compressor.checkpoint import GATE_UP, QKV, LayerShape, Tower


@dataclass(frozen=True)
class Attention:
    """Where a block's attention is, by module path in the block."""

    q: str
    k: str
    v: str
    o: str
    fused: str | None = None
    """The one linear that holds q, k and v as equal thirds of its rows; `q`, `k`, `v` are then not
    modules but the names under which the thirds are known."""
    counts: tuple[str, ...] = ()
    """Attributes of the block that hold the number of query heads and that its forward reads."""


@dataclass(frozen=True)
class TowerSpec:
    """One stack of transformer layers, or the projector as a stack of one. Paths are transformers'."""

    name: Tower
    layers: str
    """Path of the ModuleList in the model; of the projector: of the module itself."""
    used_layers: int
    """Layers that the model's output depends on, from the first; later ones are left alone."""
    heads: int
    kv_heads: int
    head_dim: int
    width: int
    """Of what a block writes: the residual stream, or the projector's output."""
    ffn_width: int
    attention: Attention | None
    """None: the block is an FFN alone, without a residual stream (the projector)."""
    ffn_norm: str
    """The norm before the FFN; its input is the residual stream after attention."""
    ffn_inputs: tuple[str, ...]
    """FFN matrices that read the stream: (`fc1`) or (`gate_proj`, `up_proj`)."""
    ffn_output: str
    reads: int | None = None
    """Width of what the FFN reads, where it is not `width`."""
    windows: tuple[int | None, ...] = ()
    """For each layer the positions that a position attends to; None or nothing = all."""
    idle: tuple[str, ...] = ()
    """Paths of blocks with the same FFN that nothing reads, but that a stock config sizes alike."""
    uniform_heads: bool = True
    """Whether the stock config can state another number of heads (it has a `head_dim`)."""
    uniform_ffn: bool = True
    """Whether the stock config can state another FFN width for this tower."""

    @property
    def group(self) -> int:
        """Query heads of one KV head."""
        return self.heads // max(1, self.kv_heads)

    @property
    def matrices(self) -> tuple[str, ...]:
        """Paths of the FFN's matrices, the output's last."""
        return (*self.ffn_inputs, self.ffn_output)

    @property
    def projections(self) -> tuple[str, ...]:
        """Paths of the attention's matrices that can be factored, the output's last.

        A fused q, k and v stays as it is.
        """
        if self.attention is None:
            return ()
        a = self.attention
        return (a.o,) if a.fused is not None else (a.q, a.k, a.v, a.o)

    @property
    def reading(self) -> tuple[str, ...]:
        """Paths of the matrices that can be factored and do not write the stream."""
        return (*self.projections[:-1], *self.ffn_inputs)

    @property
    def joints(self) -> dict[str, tuple[str, ...]]:
        """Paths of matrices that read the same and are factored as one, by its name.

        One input factor serves them better than one each at the same FLOPs, and in fewer products
        (QSVD, for q, k and v).
        """
        found: dict[str, tuple[str, ...]] = {}
        if self.attention is not None and self.attention.fused is None:
            found[QKV] = (self.attention.q, self.attention.k, self.attention.v)
        if len(self.ffn_inputs) > 1:
            found[GATE_UP] = self.ffn_inputs
        return found

    @property
    def ffn_names(self) -> tuple[str, ...]:
        """Names of what a plan may factor of the FFN, the output's last."""
        if GATE_UP in self.joints:
            return (GATE_UP, leaf(self.ffn_output))
        return tuple(leaf(path) for path in self.matrices)

    @property
    def factored(self) -> tuple[str, ...]:
        """Names of what a plan may factor of the attention: q, k and v as one matrix, and the output.

        See `joints`.
        """
        if self.attention is None:
            return ()
        output = leaf(self.attention.o)
        return (output,) if self.attention.fused is not None else (QKV, output)

    def projection_shapes(
        self, heads: int, kv_heads: int, *, joint: bool = False
    ) -> dict[str, tuple[int, int]]:
        """(out, in) of the attention's matrices by the last part of their paths.

        With `joint` q, k and v are one, `qkv_proj`.
        """
        if self.attention is None:
            return {}
        a, q, kv = self.attention, heads * self.head_dim, kv_heads * self.head_dim
        if joint:
            return {QKV: (q + 2 * kv, self.width), leaf(a.o): (self.width, q)}
        return {
            leaf(a.q): (q, self.width),
            leaf(a.k): (kv, self.width),
            leaf(a.v): (kv, self.width),
            leaf(a.o): (self.width, q),
        }

    def dense_layer(self) -> LayerShape:
        """The shape of an untouched layer."""
        return LayerShape(
            heads=tuple(range(self.heads)),
            kv_heads=tuple(range(self.kv_heads)),
            ranks=dict.fromkeys(self.ffn_names),
        )

    def matrix_shape(self, matrix: str, ffn_width: int | None = None) -> tuple[int, int]:
        """(out, in) of an FFN matrix by its name, at an FFN width."""
        inner = self.ffn_width if ffn_width is None else ffn_width
        if matrix == GATE_UP:
            return len(self.ffn_inputs) * inner, self.reads or self.width
        if leaf(self.ffn_output) == matrix:
            return self.width, inner
        return inner, self.reads or self.width

    def blocks(self, model: nn.Module) -> list[nn.Module]:
        """The layers that the model uses, in order."""
        place = model.get_submodule(self.layers)
        if self.attention is None:
            return [place]
        return list(place.children())[: self.used_layers]

    def block_path(self, index: int) -> str:
        """Path of a layer in the model."""
        return self.layers if self.attention is None else f"{self.layers}.{index}"


@dataclass(frozen=True)
class FixedFlops:
    """FLOPs that compression does not touch, and the positions that the rest is counted for."""

    patch_embedding: float
    lm_head: float
    """Of one position: engines compute logits for the last prompt position only."""
    visual_tokens: int
    """Tokens that the language model sees for one image."""
    vision_positions: int
    """Positions in the vision tower for one image."""


class Family(Protocol):
    """An architecture family."""

    @property
    def architecture(self) -> str:
        """The class name in `config.json`'s `architectures`."""

    @property
    def description(self) -> str:
        """For error messages."""

    def supports(self, config: Mapping[str, Any]) -> bool:
        """Whether the towers of this config are known."""

    def towers(self, config: Mapping[str, Any]) -> tuple[TowerSpec, ...]:
        """Vision tower, projector, language model: the order in which data flows through them."""

    def fixed_flops(self, config: Mapping[str, Any], patches: int) -> FixedFlops:
        """What stays as it is, for one image of `patches` patches (where its size is not fixed)."""

    def hub_name(self, name: str) -> str:
        """The hub's name of a tensor, from its name in transformers' `state_dict`."""

    def skeleton(self, config: Mapping[str, Any]) -> nn.Module:
        """The uncompressed transformers model with uninitialised weights."""

    def uniform_config(
        self, config: Mapping[str, Any], towers: Mapping[Tower, LayerShape]
    ) -> dict[str, Any]:
        """The stock config of a model whose towers all have layers of the given shape."""

    def with_depths(self, config: Mapping[str, Any], depths: Mapping[Tower, int]) -> dict[str, Any]:
        """The config of a model whose towers use as many layers.

        Where some layers have windows, every other one has.
        """

    def image_patches(self, inputs: Mapping[str, Any]) -> int:
        """Patches of one image in a processor's output for one example; 0 where the size is fixed."""


def leaf(path: str) -> str:
    """The last part of a module path."""
    return path.rsplit(".", 1)[-1]
