"""LLaVA with compressed towers, for vLLM."""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor
from vllm.config import VllmConfig
from vllm.model_executor.models.clip import CLIPVisionModel
from vllm.model_executor.models.llava import (
    LlavaDummyInputsBuilder,
    LlavaForConditionalGeneration,
    LlavaMultiModalProcessor,
    LlavaProcessingInfo,
)
from vllm.model_executor.models.siglip import SiglipVisionModel
from vllm.model_executor.models.utils import maybe_prefix
from vllm.multimodal import MULTIMODAL_REGISTRY

from compressor.checkpoint import LayerShape
from service.vllm_plugin import shapes
from service.vllm_plugin.linear import column_linear, factor_mapper, row_linear
from service.vllm_plugin.shapes import checked, expected_shapes, layer_shapes
from service.vllm_plugin.vision import compress_tower


@MULTIMODAL_REGISTRY.register_processor(
    LlavaMultiModalProcessor, info=LlavaProcessingInfo, dummy_inputs=LlavaDummyInputsBuilder
)
class InfoPruneLlavaForConditionalGeneration(LlavaForConditionalGeneration):
    """vLLM's LLaVA with the layer shapes of `config.json`'s `compression` section."""

    hf_to_vllm_mapper = LlavaForConditionalGeneration.hf_to_vllm_mapper | factor_mapper()

    def __init__(self, *, vllm_config: VllmConfig, prefix: str = "") -> None:
        config = vllm_config.model_config.hf_config
        # vLLM builds the language model from `text_config` alone.
        config.text_config.architectures = ["InfoPruneLlamaForCausalLM"]
        config.text_config.compression = config.compression
        config.text_config.qkv_bias = shapes.has_qkv_bias(config.text_config)
        super().__init__(vllm_config=vllm_config, prefix=prefix)
        # With --limit-mm-per-prompt image=0 there is no tower.
        if isinstance(self.vision_tower, CLIPVisionModel | SiglipVisionModel):
            compress_tower(
                self.vision_tower,
                layer_shapes(config, "vision"),
                quant_config=vllm_config.quant_config,
                prefix=maybe_prefix(prefix, "vision_tower"),
            )
        for shape in layer_shapes(config, "projector"):
            self.compress_projector(
                shape, vllm_config, maybe_prefix(prefix, "multi_modal_projector")
            )

    def compress_projector(self, shape: LayerShape, vllm_config: VllmConfig, prefix: str) -> None:
        """Put factored linears into the freshly built projector."""
        config, projector = self.config, self.multi_modal_projector
        width = config.text_config.hidden_size
        options = {
            "bias": config.multimodal_projector_bias,
            "quant_config": vllm_config.quant_config,
        }
        projector.linear_1 = column_linear(
            (width, config.vision_config.hidden_size), shape.ranks["linear_1"],
            prefix=f"{prefix}.linear_1", **options,
        )  # fmt: skip
        projector.linear_2 = row_linear(
            (width, width), shape.ranks["linear_2"], prefix=f"{prefix}.linear_2", **options
        )

    def load_weights(self, weights: Iterable[tuple[str, Tensor]]) -> set[str]:
        """Load a file's tensors, hub names; returns the names of the parameters loaded.

        Raises:
            CheckpointError: a tensor is missing or its shape is not the recorded one.
        """
        loaded: set[str] = super().load_weights(checked(weights, expected_shapes(self.config)))
        return loaded
