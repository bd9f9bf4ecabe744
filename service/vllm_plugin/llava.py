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
from vllm.model_executor.models.utils import maybe_prefix
from vllm.multimodal import MULTIMODAL_REGISTRY

from service.vllm_plugin.clip import compress_tower
from service.vllm_plugin.linear import factor_mapper
from service.vllm_plugin.shapes import checked, expected_shapes, layer_shapes


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
        super().__init__(vllm_config=vllm_config, prefix=prefix)
        # With --limit-mm-per-prompt image=0 there is no tower.
        if isinstance(self.vision_tower, CLIPVisionModel):
            compress_tower(
                self.vision_tower,
                layer_shapes(config, "vision"),
                quant_config=vllm_config.quant_config,
                prefix=maybe_prefix(prefix, "vision_tower"),
            )

    def load_weights(self, weights: Iterable[tuple[str, Tensor]]) -> set[str]:
        """Load a file's tensors, hub names; returns the names of the parameters loaded.

        Raises:
            CheckpointError: a tensor is missing or its shape is not the recorded one.
        """
        loaded: set[str] = super().load_weights(checked(weights, expected_shapes(self.config)))
        return loaded
