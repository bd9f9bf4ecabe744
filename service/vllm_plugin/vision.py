"""A CLIP or SigLIP tower's compressed parts: attention with any number of heads, smaller FFNs."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from vllm.distributed import get_tensor_model_parallel_world_size
from vllm.model_executor.layers.activation import get_act_fn
from vllm.model_executor.layers.attention import MMEncoderAttention
from vllm.model_executor.layers.linear import QKVParallelLinear, RowParallelLinear
from vllm.model_executor.models.clip import CLIPVisionModel
from vllm.model_executor.models.siglip import SiglipVisionModel
from vllm.model_executor.models.vision import is_vit_use_data_parallel

from compressor.checkpoint import LayerShape
from service.vllm_plugin.linear import column_linear, factor_attention, row_linear, split_mapper
from service.vllm_plugin.shapes import attention_sizes, head_dim_of


def by_every_rank(count: int) -> bool:
    """Whether every rank computes so many heads or neurons: they cannot be shared out evenly.

    A tower runs once a picture, so that costs little.
    """
    return is_vit_use_data_parallel() or count % get_tensor_model_parallel_world_size() != 0


class PrunedVisionAttention(nn.Module):
    """The attention of both kinds, with any number of heads of the original dimension."""

    def __init__(self, config: Any, shape: LayerShape, *, quant_config: Any, prefix: str) -> None:
        super().__init__()
        head_dim, heads = head_dim_of(config), len(shape.heads)
        tp_size = get_tensor_model_parallel_world_size()
        disable_tp = by_every_rank(heads)
        options = {"quant_config": quant_config, "disable_tp": disable_tp}
        self.qkv_proj = QKVParallelLinear(
            hidden_size=config.hidden_size, head_size=head_dim, total_num_heads=heads,
            prefix=f"{prefix}.qkv_proj", **options,
        )  # fmt: skip
        self.out_proj = RowParallelLinear(
            heads * head_dim, config.hidden_size, prefix=f"{prefix}.out_proj", **options
        )
        factor_attention(
            self, attention_sizes(config, shape, output="out_proj"), shape.attention_ranks,
            head_dim=head_dim, biases=(True, True), prefix=prefix, **options,
        )  # fmt: skip
        self.attn = MMEncoderAttention(
            heads if disable_tp else heads // tp_size,
            head_dim,
            head_dim**-0.5,
            prefix=f"{prefix}.attn",
        )

    def forward(self, hidden_states: Tensor) -> tuple[Tensor, None]:
        """(B, T, D) -> ((B, T, D), None): the layer expects a pair."""
        qkv, _ = self.qkv_proj(hidden_states)  # (B, T, 3 * heads * head_dim)
        query, key, value = qkv.chunk(3, dim=-1)
        output, _ = self.out_proj(self.attn(query, key, value))
        return output, None


class SmallerVisionMLP(nn.Module):
    """The FFN of both kinds, with fewer neurons or factored matrices."""

    def __init__(self, config: Any, shape: LayerShape, *, quant_config: Any, prefix: str) -> None:
        super().__init__()
        width, ranks = config.hidden_size, shape.ranks
        ffn_width = shape.ffn_width or config.intermediate_size
        options = {"quant_config": quant_config, "disable_tp": by_every_rank(ffn_width)}
        self.fc1 = column_linear(
            (ffn_width, width), ranks["fc1"], bias=True, prefix=f"{prefix}.fc1", **options
        )
        self.activation = get_act_fn(config.hidden_act)
        self.fc2 = row_linear(
            (width, ffn_width), ranks["fc2"], bias=True, prefix=f"{prefix}.fc2", **options
        )

    def forward(self, hidden_states: Tensor) -> Tensor:
        """(B, T, D) -> (B, T, D)."""
        inner, _ = self.fc1(hidden_states)  # (B, T, F)
        output: Tensor = self.fc2(self.activation(inner))[0]
        return output


def compress_tower(
    tower: CLIPVisionModel | SiglipVisionModel,
    shapes: tuple[LayerShape, ...],
    *,
    quant_config: Any,
    prefix: str,
) -> None:
    """Put compressed parts into a freshly built tower, whose weights are not loaded yet."""
    model = tower.vision_model
    for index, (layer, shape) in enumerate(zip(model.encoder.layers, shapes, strict=False)):
        path = f"{prefix}.vision_model.encoder.layers.{index}"
        layer.self_attn = PrunedVisionAttention(
            model.config, shape, quant_config=quant_config, prefix=f"{path}.self_attn"
        )
        layer.mlp = SmallerVisionMLP(
            model.config, shape, quant_config=quant_config, prefix=f"{path}.mlp"
        )
    model.hf_to_vllm_mapper |= split_mapper(model.encoder.layers, "encoder.layers")
