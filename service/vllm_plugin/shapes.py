"""What a compressed LLaVA's file must hold: each tensor's shape, from `config.json` alone.

vLLM's own loaders would take the first rows of a tensor that is too large, and would leave a linear
whose tensor is missing uninitialised, both silently; so the tensors are checked before it sees them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from compressor.checkpoint import Compression, LayerShape, Tower, factor_names
from compressor.errors import CheckpointError

if TYPE_CHECKING:
    from torch import Tensor

Shapes = dict[str, tuple[int, ...]]


def layer_shapes(config: Any, tower: Tower) -> tuple[LayerShape, ...]:
    """A tower's recorded layers, from the first; empty where the tower was not touched."""
    section = getattr(config, "compression", None)
    compression = Compression.of_config({"compression": section})
    return compression.towers.get(tower, ()) if compression else ()


def head_dim_of(config: Any) -> int:
    """A tower's head dimension, which pruning heads does not change."""
    explicit: int | None = getattr(config, "head_dim", None)
    return explicit or config.hidden_size // config.num_attention_heads


def expected_shapes(config: Any) -> Shapes:
    """The shape of each linear of the projector and of both towers' layers, by the hub's name.

    Only layers that `compression` records are listed of a tower; vLLM drops unused vision layers.
    """
    vision, text = config.vision_config, config.text_config
    attention_bias = bool(getattr(text, "attention_bias", False))
    mlp_bias = bool(getattr(text, "mlp_bias", False))
    projector_bias = config.multimodal_projector_bias
    towers: tuple[tuple[Tower, str, _Layer], ...] = (
        ("vision", "vision_tower.vision_model.encoder.layers",
         _Layer(vision, "out_proj", ("fc1",), "fc2", attention_bias=True, mlp_bias=True)),
        ("language", "language_model.model.layers",
         _Layer(text, "o_proj", ("gate_proj", "up_proj"), "down_proj", attention_bias, mlp_bias)),
    )  # fmt: skip
    width = text.hidden_size
    shapes = {
        **_linear("multi_modal_projector.linear_1", width, vision.hidden_size, bias=projector_bias),
        **_linear("multi_modal_projector.linear_2", width, width, bias=projector_bias),
    }
    for tower, path, layer in towers:
        for index, shape in enumerate(layer_shapes(config, tower)):
            shapes |= layer.tensors(f"{path}.{index}", shape)
    return shapes


def checked(
    weights: Iterable[tuple[str, Tensor]], expected: Shapes
) -> Iterator[tuple[str, Tensor]]:
    """Pass a file's tensors through, and hold each against the shape that it must have.

    Raises:
        CheckpointError: a tensor has another shape, or, at the end, one was missing.
    """
    missing = set(expected)
    for name, tensor in weights:
        if name in expected and tuple(tensor.shape) != expected[name]:
            raise CheckpointError(
                f"Tensor {name!r} has shape {tuple(tensor.shape)}, but config.json's compression "
                f"section asks for {expected[name]}; export the model again."
            )
        missing.discard(name)
        yield name, tensor
    if missing:
        raise CheckpointError(
            f"The checkpoint lacks {len(missing)} tensors, the first {min(missing)!r}; "
            "export the model again."
        )


@dataclass(frozen=True)
class _Layer:
    """The linears of one kind of transformer layer."""

    config: Any
    output: str
    """Of the attention."""
    ffn_inputs: tuple[str, ...]
    ffn_output: str
    attention_bias: bool
    mlp_bias: bool

    def tensors(self, path: str, shape: LayerShape) -> Shapes:
        """The tensors of the layer at `path`, by name."""
        width, ffn_width = self.config.hidden_size, self.config.intermediate_size
        head_dim = head_dim_of(self.config)
        queries, keys = len(shape.heads) * head_dim, len(shape.kv_heads) * head_dim
        bias = self.attention_bias
        tensors = _linear(f"{path}.self_attn.{self.output}", width, queries, bias=bias)
        for name, rows in (("q_proj", queries), ("k_proj", keys), ("v_proj", keys)):
            tensors |= _linear(f"{path}.self_attn.{name}", rows, width, bias=bias)
        matrices = dict.fromkeys(self.ffn_inputs, (ffn_width, width))
        for name, (rows, columns) in {**matrices, self.ffn_output: (width, ffn_width)}.items():
            rank = shape.ranks[name]
            if rank is None:
                tensors |= _linear(f"{path}.mlp.{name}", rows, columns, bias=self.mlp_bias)
            else:
                first, second = (f"{path}.mlp.{factor}" for factor in factor_names(name))
                tensors |= _linear(first, rank, columns, bias=False)
                tensors |= _linear(second, rows, rank, bias=self.mlp_bias)
        return tensors


def _linear(name: str, rows: int, columns: int, *, bias: bool) -> Shapes:
    weight: Shapes = {f"{name}.weight": (rows, columns)}
    return weight | ({f"{name}.bias": (rows,)} if bias else {})
