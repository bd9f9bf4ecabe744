"""LLaVA's language model, compressed: layers of uneven heads, with smaller or factored FFNs.

Mistral's layers are Llama's. Qwen2's are Llama's with biases on q, k and v, which vLLM's Llama layer
has when its config says `qkv_bias`.
"""

from __future__ import annotations

import copy
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn
from vllm.config import VllmConfig
from vllm.distributed import get_tensor_model_parallel_world_size
from vllm.model_executor.layers.activation import SiluAndMul
from vllm.model_executor.layers.linear import MergedColumnParallelLinear, ReplicatedLinear
from vllm.model_executor.models.llama import LlamaDecoderLayer, LlamaForCausalLM
from vllm.model_executor.models.utils import extract_layer_index

from compressor.checkpoint import GATE_UP, LayerShape
from compressor.errors import CheckpointError
from service.vllm_plugin.linear import (
    FactoredLinear,
    column_linear,
    factor_attention,
    row_linear,
    split_mapper,
)
from service.vllm_plugin.shapes import (
    attention_sizes,
    has_o_bias,
    has_qkv_bias,
    head_dim_of,
    layer_shapes,
)
from service.vllm_plugin.sharding import check_shards


class GatedMLP(nn.Module):
    """A gated FFN with any number of neurons, each matrix dense or factored on its own (format 1)."""

    def __init__(
        self,
        config: Any,
        shape: LayerShape,
        *,
        bias: bool,
        quant_config: Any,
        prefix: str,
        disable_tp: bool = False,
    ) -> None:
        super().__init__()
        check_activation(config)
        width, ranks = config.hidden_size, shape.ranks
        ffn_width = shape.ffn_width or config.intermediate_size
        options = {"quant_config": quant_config, "bias": bias, "disable_tp": disable_tp}
        self.gate = column_linear(
            (ffn_width, width), ranks["gate_proj"], prefix=f"{prefix}.gate", **options
        )
        self.up = column_linear(
            (ffn_width, width), ranks["up_proj"], prefix=f"{prefix}.up", **options
        )
        self.down = row_linear(
            (width, ffn_width), ranks["down_proj"], prefix=f"{prefix}.down", **options
        )

    def forward(self, x: Tensor) -> Tensor:
        """(..., D) -> (..., D)."""
        gate, _ = self.gate(x)  # (..., F)
        up, _ = self.up(x)
        output: Tensor = self.down(F.silu(gate) * up)[0]
        return output


class MergedGatedMLP(nn.Module):
    """A gated FFN with any number of neurons, gate and up as one matrix, dense or factored."""

    def __init__(
        self, config: Any, shape: LayerShape, *, bias: bool, prefix: str, **options: Any
    ) -> None:
        """`options`: what vLLM's linear layers take too (`quant_config`, `disable_tp`)."""
        super().__init__()
        check_activation(config)
        width, joint = config.hidden_size, shape.ranks[GATE_UP]
        ffn_width = shape.ffn_width or config.intermediate_size
        path, sizes = f"{prefix}.gate_up_proj", [ffn_width] * 2
        self.gate_up_proj = (
            MergedColumnParallelLinear(width, sizes, bias=bias, prefix=path, **options)
            if joint is None
            else FactoredLinear(
                ReplicatedLinear(width, joint, bias=False, prefix=f"{path}.in_factor", **options),
                MergedColumnParallelLinear(
                    joint, sizes, bias=bias, prefix=f"{path}.out_factor", **options
                ),
            )
        )
        self.down_proj = row_linear(
            (width, ffn_width), shape.ranks["down_proj"], bias=bias, prefix=f"{prefix}.down_proj",
            **options,
        )  # fmt: skip
        self.activation = SiluAndMul()

    def forward(self, x: Tensor) -> Tensor:
        """(..., D) -> (..., D)."""
        gate_up, _ = self.gate_up_proj(x)  # (..., 2 F)
        output: Tensor = self.down_proj(self.activation(gate_up))[0]
        return output


def gated_mlp(config: Any, shape: LayerShape, **options: Any) -> nn.Module:
    """The gated FFN of a layer; `options` are those of the two classes."""
    kind = MergedGatedMLP if GATE_UP in shape.ranks else GatedMLP
    return kind(config, shape, **options)


def check_activation(config: Any) -> None:
    """Refuse a gate that is no SiLU."""
    if config.hidden_act != "silu":
        raise CheckpointError(f"Activation {config.hidden_act!r} is not supported, only 'silu'.")


class InfoPruneLlamaLayer(LlamaDecoderLayer):
    """A Llama layer with the heads, KV heads and FFN ranks that `config.json` records for it."""

    def __init__(self, vllm_config: VllmConfig, prefix: str = "") -> None:
        config = vllm_config.model_config.hf_config
        index = extract_layer_index(prefix)
        shapes = layer_shapes(config, "language")
        if index >= len(shapes):
            super().__init__(vllm_config, prefix)
            return
        shape = shapes[index]
        check_shards(shape, index, get_tensor_model_parallel_world_size())
        super().__init__(vllm_config, prefix, config=with_shape(config, shape))
        quant_config = self.get_quant_config(vllm_config)
        factor_attention(
            self.self_attn,
            attention_sizes(config, shape),
            shape.attention_ranks,
            head_dim=head_dim_of(config),
            biases=(has_qkv_bias(config), has_o_bias(config)),
            quant_config=quant_config,
            prefix=f"{prefix}.self_attn",
        )
        if any(rank is not None for rank in shape.ranks.values()):
            self.mlp = gated_mlp(
                config,
                shape,
                bias=getattr(config, "mlp_bias", False),
                quant_config=quant_config,
                prefix=f"{prefix}.mlp",
            )


class InfoPruneLlamaForCausalLM(LlamaForCausalLM):
    """Llama whose layers differ; its config carries the whole model's `compression` section."""

    def __init__(self, *, vllm_config: VllmConfig, prefix: str = "") -> None:
        super().__init__(vllm_config=vllm_config, prefix=prefix, layer_type=InfoPruneLlamaLayer)
        self.model.hf_to_vllm_mapper |= split_mapper(self.model.layers, "layers")


def with_shape(config: Any, shape: LayerShape) -> Any:
    """A copy of the model's config with one layer's heads, whose dimension stays, and FFN width."""
    own = copy.copy(config)
    own.head_dim = head_dim_of(config)
    own.num_attention_heads = len(shape.heads)
    own.num_key_value_heads = len(shape.kv_heads)
    own.intermediate_size = shape.ffn_width or config.intermediate_size
    return own
