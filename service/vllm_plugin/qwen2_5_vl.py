"""Qwen2.5-VL with compressed towers, for vLLM."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import Tensor, nn
from vllm.config import VllmConfig
from vllm.distributed import get_tensor_model_parallel_world_size
from vllm.model_executor.models.llama import LlamaAttention, LlamaMLP
from vllm.model_executor.models.qwen2_5_vl import (
    Qwen2_5_VisionAttention,
    Qwen2_5_VLDummyInputsBuilder,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2_5_VLMultiModalProcessor,
    Qwen2_5_VLProcessingInfo,
)
from vllm.model_executor.models.utils import maybe_prefix
from vllm.model_executor.models.vision import is_vit_use_data_parallel
from vllm.multimodal import MULTIMODAL_REGISTRY

from compressor.checkpoint import LayerShape
from compressor.errors import CheckpointError
from service.vllm_plugin.linear import (
    column_linear,
    factor_attention,
    factor_mapper,
    row_linear,
    split_mapper,
    unpaired,
)
from service.vllm_plugin.llama import gated_mlp, with_shape
from service.vllm_plugin.shapes import (
    attention_sizes,
    checked,
    expected_qwen_shapes,
    head_dim_of,
    layer_shapes,
)
from service.vllm_plugin.sharding import check_shards
from service.vllm_plugin.vision import by_every_rank


@MULTIMODAL_REGISTRY.register_processor(
    Qwen2_5_VLMultiModalProcessor,
    info=Qwen2_5_VLProcessingInfo,
    dummy_inputs=Qwen2_5_VLDummyInputsBuilder,
)
class InfoPruneQwen2_5_VLForConditionalGeneration(Qwen2_5_VLForConditionalGeneration):  # noqa: N801
    """vLLM's Qwen2.5-VL with the layer shapes of `config.json`'s `compression` section."""

    hf_to_vllm_mapper = Qwen2_5_VLForConditionalGeneration.hf_to_vllm_mapper | factor_mapper()

    def __init__(self, *, vllm_config: VllmConfig, prefix: str = "") -> None:
        super().__init__(vllm_config=vllm_config, prefix=prefix)
        config, quant_config = self.config, vllm_config.quant_config
        if isinstance(self.visual, nn.Module) and hasattr(self.visual, "blocks"):
            path = maybe_prefix(prefix, "visual")
            compress_blocks(
                self.visual.blocks,
                config.vision_config,
                layer_shapes(config, "vision"),
                quant_config=quant_config,
                prefix=f"{path}.blocks",
            )
            self.visual.hf_to_vllm_mapper |= split_mapper(self.visual.blocks, "blocks")
            for shape in layer_shapes(config, "projector"):
                compress_merger(
                    self.visual.merger,
                    config,
                    shape,
                    quant_config=quant_config,
                    prefix=f"{path}.merger",
                )
        layers = f"{maybe_prefix(prefix, 'language_model')}.model.layers"
        compress_decoder(self.language_model.model, config, vllm_config, prefix=layers)

    def compress_projector(self, shape: LayerShape, vllm_config: VllmConfig, prefix: str) -> None:
        """Put factored linears into the merger."""
        compress_merger(
            self.visual.merger,
            self.config,
            shape,
            quant_config=vllm_config.quant_config,
            prefix=prefix,
        )

    def load_weights(self, weights: Iterable[tuple[str, Tensor]]) -> set[str]:
        """Load a file's tensors, hub names; returns the names of the parameters loaded.

        Raises:
            CheckpointError: a tensor is missing or its shape is not the recorded one.
        """
        expected = expected_qwen_shapes(self.config)
        loaded: set[str] = super().load_weights(checked(weights, expected))
        return loaded


def compress_blocks(
    blocks: Any,
    config: Any,
    shapes: tuple[LayerShape, ...],
    *,
    quant_config: Any,
    prefix: str,
) -> None:
    """Put compressed parts into a freshly built tower, whose weights are not loaded yet."""
    head_dim = config.hidden_size // config.num_heads
    data_parallel = is_vit_use_data_parallel()
    ranks = 1 if data_parallel else get_tensor_model_parallel_world_size()
    for index, (block, shape) in enumerate(zip(blocks, shapes, strict=False)):
        if len(shape.heads) % ranks:
            raise CheckpointError(
                f"Vision layer {index} keeps {len(shape.heads)} heads, which "
                f"--tensor-parallel-size {ranks} does not divide; add --mm-encoder-tp-mode data."
            )
        block.attn = Qwen2_5_VisionAttention(
            embed_dim=config.hidden_size,
            num_heads=len(shape.heads),
            projection_size=len(shape.heads) * head_dim,
            quant_config=quant_config,
            prefix=f"{prefix}.{index}.attn",
        )
        if (rank := shape.attention_ranks.get("proj")) is not None:
            size = (config.hidden_size, len(shape.heads) * head_dim)
            block.attn.proj = row_linear(
                size, rank, bias=True, quant_config=quant_config,
                prefix=f"{prefix}.{index}.attn.proj", disable_tp=data_parallel,
            )  # fmt: skip
        block.mlp = gated_mlp(
            config, shape, bias=True, quant_config=quant_config, prefix=f"{prefix}.{index}.mlp",
            disable_tp=by_every_rank(shape.ffn_width or config.intermediate_size),
        )  # fmt: skip


def compress_merger(
    merger: Any, config: Any, shape: LayerShape, *, quant_config: Any, prefix: str
) -> None:
    """Put factored linears into the freshly built projector."""
    vision = config.vision_config
    inner = vision.hidden_size * vision.spatial_merge_size**2
    options = {"bias": True, "quant_config": quant_config, "disable_tp": is_vit_use_data_parallel()}
    if shape.ranks["0"] is not None:
        merger.mlp[0] = unpaired(
            column_linear((inner, inner), shape.ranks["0"], prefix=f"{prefix}.mlp.0", **options)
        )
    if shape.ranks["2"] is not None:
        size = (vision.out_hidden_size, inner)
        merger.mlp[2] = unpaired(
            row_linear(size, shape.ranks["2"], prefix=f"{prefix}.mlp.2", **options)
        )


def compress_decoder(model: Any, config: Any, vllm_config: VllmConfig, *, prefix: str) -> None:
    """Put compressed parts into a freshly built decoder, whose weights are not loaded yet.

    Its attention is Llama's with biases on q, k and v: vLLM's Qwen2 attention takes the dimension of a
    head from their number.
    """
    text, quant_config = config.get_text_config(), vllm_config.quant_config
    for index, shape in enumerate(layer_shapes(config, "language")):
        layer, path = model.layers[index], f"{prefix}.{index}"
        if not hasattr(layer, "self_attn"):  # of another pipeline stage
            continue
        check_shards(shape, index, get_tensor_model_parallel_world_size())
        own = with_shape(text, shape)
        # The stock attention has entered its name where the new one will.
        del vllm_config.compilation_config.static_forward_context[f"{path}.self_attn.attn"]
        layer.self_attn = LlamaAttention(
            config=own,
            hidden_size=text.hidden_size,
            num_heads=len(shape.heads),
            num_kv_heads=len(shape.kv_heads),
            max_position_embeddings=text.max_position_embeddings,
            quant_config=quant_config,
            bias=True,
            cache_config=vllm_config.cache_config,
            prefix=f"{path}.self_attn",
        )
        factor_attention(
            layer.self_attn, attention_sizes(text, shape), shape.attention_ranks,
            head_dim=head_dim_of(text), biases=(True, False), quant_config=quant_config,
            prefix=f"{path}.self_attn",
        )  # fmt: skip
        if any(rank is not None for rank in shape.ranks.values()):
            layer.mlp = gated_mlp(
                text, shape, bias=False, quant_config=quant_config, prefix=f"{path}.mlp"
            )
        else:
            layer.mlp = LlamaMLP(
                hidden_size=text.hidden_size,
                intermediate_size=own.intermediate_size,
                hidden_act=text.hidden_act,
                quant_config=quant_config,
                prefix=f"{path}.mlp",
            )
    assert head_dim_of(text) * text.num_attention_heads == text.hidden_size
    model.hf_to_vllm_mapper |= split_mapper(model.layers, "layers")
