"""What a compressed LLaVA's file must hold: each tensor's shape, from `config.json` alone.

vLLM's own loaders would take the first rows of a tensor that is too large, and would leave a linear
whose tensor is missing uninitialised, both silently; so the tensors are checked before it sees them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from compressor.checkpoint import GATE_UP, QKV, Compression, LayerShape, Tower, factor_names
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


def has_qkv_bias(text: Any) -> bool:
    """Whether a decoder's q, k and v have biases: Qwen2's always, the others' by their config."""
    return text.model_type == "qwen2" or bool(getattr(text, "attention_bias", False))


def has_o_bias(text: Any) -> bool:
    """Whether a decoder's attention output has a bias."""
    return bool(getattr(text, "attention_bias", False)) and text.model_type != "qwen2"


def attention_sizes(
    config: Any, shape: LayerShape, *, output: str = "o_proj"
) -> dict[str, tuple[int, int]]:
    """(out, in) of q, k, v and the output matrix of a layer."""
    head_dim, width = head_dim_of(config), config.hidden_size
    queries, keys = len(shape.heads) * head_dim, len(shape.kv_heads) * head_dim
    sizes = {"q_proj": (queries, width), "k_proj": (keys, width), "v_proj": (keys, width)}
    return {**sizes, output: (width, queries)}


def expected_shapes(config: Any) -> Shapes:
    """The shape of each linear of the projector and of both towers' layers, by the hub's name.

    Only layers that `compression` records are listed of a tower; vLLM drops unused vision layers.
    """
    vision, text = config.vision_config, config.text_config
    mlp_bias = bool(getattr(text, "mlp_bias", False))
    towers: tuple[tuple[Tower, str, _Layer], ...] = (
        ("vision", "vision_tower.vision_model.encoder.layers",
         _Layer(vision, "out_proj", ("fc1",), "fc2", qkv_bias=True, o_bias=True, mlp_bias=True)),
        ("language", "language_model.model.layers",
         _Layer(text, "o_proj", ("gate_proj", "up_proj"), "down_proj",
                qkv_bias=has_qkv_bias(text), o_bias=has_o_bias(text), mlp_bias=mlp_bias)),
    )  # fmt: skip
    width, bias = text.hidden_size, config.multimodal_projector_bias
    ranks = next((s.ranks for s in layer_shapes(config, "projector")), {})
    shapes: Shapes = {}
    for name, columns in (("linear_1", vision.hidden_size), ("linear_2", width)):
        path = f"multi_modal_projector.{name}"
        shapes |= matrix(path, (width, columns), ranks.get(name), bias=bias)
    for tower, path, layer in towers:
        for index, shape in enumerate(layer_shapes(config, tower)):
            shapes |= layer.tensors(f"{path}.{index}", shape)
    return shapes


def expected_qwen_shapes(config: Any) -> Shapes:
    """The same of a compressed Qwen2.5-VL."""
    vision, text = config.vision_config, config.get_text_config()
    inner = vision.hidden_size * vision.spatial_merge_size**2
    shapes: Shapes = {}
    for shape in layer_shapes(config, "projector"):
        shapes |= matrix("visual.merger.mlp.0", (inner, inner), shape.ranks["0"], bias=True)
        size = (vision.out_hidden_size, inner)
        shapes |= matrix("visual.merger.mlp.2", size, shape.ranks["2"], bias=True)
    gated = (("gate_proj", "up_proj"), "down_proj")
    decoder = _Layer(text, "o_proj", *gated, qkv_bias=True, o_bias=False, mlp_bias=False)
    for index, shape in enumerate(layer_shapes(config, "language")):
        shapes |= decoder.tensors(f"model.layers.{index}", shape)
    tower = _Layer(vision, "", *gated, qkv_bias=True, o_bias=True, mlp_bias=True)
    for index, shape in enumerate(layer_shapes(config, "vision")):
        path = f"visual.blocks.{index}"
        rows = len(shape.heads) * (vision.hidden_size // vision.num_heads)
        shapes |= _linear(f"{path}.attn.qkv", 3 * rows, vision.hidden_size, bias=True)
        size = (vision.hidden_size, rows)
        shapes |= matrix(f"{path}.attn.proj", size, shape.attention_ranks.get("proj"), bias=True)
        shapes |= tower.ffn_tensors(path, shape)
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
    qkv_bias: bool
    o_bias: bool
    mlp_bias: bool

    def tensors(self, path: str, shape: LayerShape) -> Shapes:
        """The tensors of the layer at `path`, by name."""
        own, ranks = f"{path}.self_attn", shape.attention_ranks
        sizes = attention_sizes(self.config, shape, output=self.output)
        size = sizes.pop(self.output)
        tensors = matrices(own, sizes, QKV, ranks, bias=self.qkv_bias)
        tensors |= matrix(f"{own}.{self.output}", size, ranks.get(self.output), bias=self.o_bias)
        return tensors | self.ffn_tensors(path, shape)

    def ffn_tensors(self, path: str, shape: LayerShape) -> Shapes:
        """The tensors of the FFN of the layer at `path`, by name."""
        width = self.config.hidden_size
        ffn_width = shape.ffn_width or self.config.intermediate_size
        inputs = dict.fromkeys(self.ffn_inputs, (ffn_width, width))
        own, ranks = f"{path}.mlp", shape.ranks
        tensors = matrices(own, inputs, GATE_UP, ranks, bias=self.mlp_bias)
        size = (width, ffn_width)
        output = matrix(
            f"{own}.{self.ffn_output}", size, ranks.get(self.ffn_output), bias=self.mlp_bias
        )
        return tensors | output


def matrices(
    path: str,
    sizes: Mapping[str, tuple[int, int]],
    joint: str,
    ranks: Mapping[str, int | None],
    *,
    bias: bool,
) -> Shapes:
    """The tensors of the linears of `sizes` in the module at `path` that can be factored as `joint`."""
    rank = ranks.get(joint)
    tensors: Shapes = {}
    for name, size in sizes.items():
        if rank is None:
            tensors |= matrix(f"{path}.{name}", size, ranks.get(name), bias=bias)
        else:
            tensors |= _linear(f"{path}.{factor_names(name)[1]}", size[0], rank, bias=bias)
            tensors |= _linear(f"{path}.{factor_names(joint)[0]}", rank, size[1], bias=False)
    return tensors


def matrix(path: str, size: tuple[int, int], rank: int | None, *, bias: bool) -> Shapes:
    """The tensors of a linear of `size` = (out, in), dense or in two factors."""
    rows, columns = size
    if rank is None:
        return _linear(path, rows, columns, bias=bias)
    parent, _, name = path.rpartition(".")
    first, second = (f"{parent}.{factor}" for factor in factor_names(name))
    return {**_linear(first, rank, columns, bias=False), **_linear(second, rows, rank, bias=bias)}


def _linear(name: str, rows: int, columns: int, *, bias: bool) -> Shapes:
    weight: Shapes = {f"{name}.weight": (rows, columns)}
    return weight | ({f"{name}.bias": (rows,)} if bias else {})
