"""LLaVA: a CLIP or SigLIP tower, a two-layer projector, a Llama, Mistral or Qwen2 decoder."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from torch import nn

from compressor.checkpoint import ARCHITECTURE_PREFIX, LayerShape, Tower
from compressor.families.base import Attention, FixedFlops, TowerSpec

VISION_TYPES = ("clip_vision_model", "siglip_vision_model")
TEXT_TYPES = ("llama", "mistral", "qwen2")
# The decoders whose stock classes, in transformers and in vLLM, read `head_dim` from the config.
_FREE_HEAD_DIM = ("llama", "mistral")
_QKV = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj")


class LlavaFamily:
    """`LlavaForConditionalGeneration` as LLaVA-1.5's hub checkpoints have it."""

    architecture = "LlavaForConditionalGeneration"
    description = (
        "LlavaForConditionalGeneration (CLIP or SigLIP tower; Llama, Mistral or Qwen2 decoder)"
    )

    def supports(self, config: Mapping[str, Any]) -> bool:
        """Whether tower and decoder are of the known types."""
        return (
            config.get("vision_config", {}).get("model_type") in VISION_TYPES
            and config.get("text_config", {}).get("model_type") in TEXT_TYPES
            and isinstance(config.get("vision_feature_layer", -2), int)
        )

    def towers(self, config: Mapping[str, Any]) -> tuple[TowerSpec, ...]:
        """The vision tower up to the feature layer, the projector, the decoder."""
        parsed = _parse(config)
        return _vision(parsed), _projector(parsed), _language(parsed)

    def fixed_flops(self, config: Mapping[str, Any], patches: int) -> FixedFlops:
        """Patch embedding, and the head's matrix for one position."""
        parsed = _parse(config)
        vision, text = parsed.vision_config, parsed.text_config
        patches = (vision.image_size // vision.patch_size) ** 2
        cls = vision.model_type == "clip_vision_model"
        dropped = cls and parsed.vision_feature_select_strategy == "default"
        return FixedFlops(
            patch_embedding=2.0 * patches * vision.num_channels * vision.patch_size**2
            * vision.hidden_size,
            lm_head=2.0 * text.hidden_size * text.vocab_size,
            visual_tokens=patches + cls - dropped,
            vision_positions=patches + cls,
        )  # fmt: skip

    def hub_name(self, name: str) -> str:
        """transformers 5 flattened the CLIP tower and nests the rest; the hub and vLLM do not."""
        if name.startswith("model.vision_tower."):
            return name.replace("model.vision_tower.", "vision_tower.vision_model.", 1)
        if name.startswith("model.language_model."):
            return name.replace("model.language_model.", "language_model.model.", 1)
        if name.startswith("lm_head."):
            return f"language_model.{name}"
        return name.removeprefix("model.")

    def skeleton(self, config: Mapping[str, Any]) -> nn.Module:
        """An uninitialised `LlavaForConditionalGeneration`."""
        from transformers import LlavaForConditionalGeneration
        from transformers.initialization import no_init_weights

        with no_init_weights():
            model = LlavaForConditionalGeneration(_parse(config))
        assert isinstance(model, nn.Module)
        return model

    def uniform_config(
        self, config: Mapping[str, Any], towers: Mapping[Tower, LayerShape]
    ) -> dict[str, Any]:
        """Numbers of heads and FFN widths of both towers, as stock classes read them."""
        changed: dict[str, Any] = copy.deepcopy(dict(config))
        parsed = _parse(config)
        if "vision" in towers and towers["vision"].ffn_width is not None:
            changed["vision_config"]["intermediate_size"] = towers["vision"].ffn_width
        if "language" in towers:
            shape, text = towers["language"], changed["text_config"]
            text["head_dim"] = _head_dim(parsed.text_config)
            text["num_attention_heads"] = len(shape.heads)
            text["num_key_value_heads"] = len(shape.kv_heads)
            text["intermediate_size"] = shape.ffn_width or parsed.text_config.intermediate_size
        return changed

    def with_depths(self, config: Mapping[str, Any], depths: Mapping[Tower, int]) -> dict[str, Any]:
        """A tower that ends with the feature layer, and a decoder without a list of layer types."""
        changed: dict[str, Any] = copy.deepcopy(dict(config))
        # The feature layer would else be found from the new depth, or not be reached.
        changed["vision_feature_layer"] = -1
        changed["vision_config"]["num_hidden_layers"] = depths["vision"]
        changed["text_config"]["num_hidden_layers"] = depths["language"]
        changed["text_config"].pop("layer_types", None)
        return changed

    def image_patches(self, inputs: Mapping[str, Any]) -> int:
        """LLaVA's images all have one size."""
        return 0


def _vision(parsed: Any) -> TowerSpec:
    vision, feature_layer = parsed.vision_config, parsed.vision_feature_layer
    # hidden_states[i] is the output of layer i - 1; a negative index counts from the last.
    depth = vision.num_hidden_layers
    used = feature_layer if feature_layer >= 0 else depth + 1 + feature_layer
    layers = "model.vision_tower.encoder.layers"
    idle = tuple(f"{layers}.{index}" for index in range(used, depth))
    if getattr(vision, "vision_use_head", vision.model_type == "siglip_vision_model"):
        idle = (*idle, "model.vision_tower.head")
    return TowerSpec(
        name="vision", layers=layers, used_layers=used, idle=idle,
        heads=vision.num_attention_heads, kv_heads=vision.num_attention_heads,
        head_dim=vision.hidden_size // vision.num_attention_heads, width=vision.hidden_size,
        ffn_width=vision.intermediate_size,
        attention=Attention(*_QKV, o="self_attn.out_proj"), ffn_norm="layer_norm2",
        ffn_inputs=("mlp.fc1",), ffn_output="mlp.fc2", uniform_heads=False,
    )  # fmt: skip


def _projector(parsed: Any) -> TowerSpec:
    width = parsed.text_config.hidden_size
    return TowerSpec(
        name="projector", layers="model.multi_modal_projector", used_layers=1,
        heads=0, kv_heads=0, head_dim=0, width=width, ffn_width=width, attention=None, ffn_norm="",
        ffn_inputs=("linear_1",), ffn_output="linear_2", reads=parsed.vision_config.hidden_size,
        uniform_heads=False, uniform_ffn=False,
    )  # fmt: skip


def _language(parsed: Any) -> TowerSpec:
    text = parsed.text_config
    return TowerSpec(
        name="language", layers="model.language_model.layers", used_layers=text.num_hidden_layers,
        heads=text.num_attention_heads, kv_heads=text.num_key_value_heads,
        head_dim=_head_dim(text), width=text.hidden_size, ffn_width=text.intermediate_size,
        attention=Attention(*_QKV, o="self_attn.o_proj"),
        ffn_norm="post_attention_layernorm",
        ffn_inputs=("mlp.gate_proj", "mlp.up_proj"), ffn_output="mlp.down_proj",
        uniform_heads=text.model_type in _FREE_HEAD_DIM,
    )  # fmt: skip


def _head_dim(text: Any) -> int:
    explicit: int | None = getattr(text, "head_dim", None)
    return explicit or text.hidden_size // text.num_attention_heads


def _parse(config: Mapping[str, Any]) -> Any:
    """transformers' config object, with the defaults that a hub `config.json` leaves out."""
    from transformers import LlavaConfig

    plain = {k: v for k, v in config.items() if k != "compression"}
    plain["architectures"] = [
        name.removeprefix(ARCHITECTURE_PREFIX) for name in plain.get("architectures") or []
    ]
    return LlavaConfig.from_dict(plain)
