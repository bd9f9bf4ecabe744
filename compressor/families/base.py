"""What a family tells the rest of the compressor: where heads and FFNs are, and how large."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from torch import nn

from compressor.checkpoint import LayerShape, Tower


@dataclass(frozen=True)
class TowerSpec:
    """One stack of transformer layers. Module paths are transformers'."""

    name: Tower
    layers: str
    """Path of the ModuleList in the model."""
    used_layers: int
    """Layers that the model's output depends on, from the first; later ones are left alone."""
    heads: int
    kv_heads: int
    head_dim: int
    width: int
    """Of the residual stream."""
    ffn_width: int
    q: str
    k: str
    v: str
    o: str
    ffn_norm: str
    """The norm before the FFN; its input is the residual stream after attention."""
    ffn_inputs: tuple[str, ...]
    """FFN matrices that read the residual stream: (`fc1`) or (`gate_proj`, `up_proj`)."""
    ffn_output: str
    causal: bool

    @property
    def group(self) -> int:
        """Query heads of one KV head."""
        return self.heads // self.kv_heads

    def dense_layer(self) -> LayerShape:
        """The shape of an untouched layer."""
        names = [*self.ffn_inputs, self.ffn_output]
        return LayerShape(
            heads=tuple(range(self.heads)),
            kv_heads=tuple(range(self.kv_heads)),
            ranks={name.rsplit(".", 1)[-1]: None for name in names},
        )

    def matrix_shape(self, matrix: str) -> tuple[int, int]:
        """(out, in) of an FFN matrix by the last part of its path."""
        if self.ffn_output.endswith(matrix):
            return self.width, self.ffn_width
        return self.ffn_width, self.width


@dataclass(frozen=True)
class FixedFlops:
    """FLOPs that compression does not touch."""

    patch_embedding: float
    projector: float
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
        """The towers in the order that data flows through them."""

    def fixed_flops(self, config: Mapping[str, Any]) -> FixedFlops:
        """What stays as it is, for one image."""

    def hub_name(self, name: str) -> str:
        """The hub's name of a tensor, from its name in transformers' `state_dict`."""

    def skeleton(self, config: Mapping[str, Any]) -> nn.Module:
        """The uncompressed transformers model with uninitialised weights."""
