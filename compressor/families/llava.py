"""LLaVA: a CLIP tower, a two-layer projector, a Llama decoder."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from compressor.checkpoint import ARCHITECTURE_PREFIX
from compressor.families.base import FixedFlops, TowerSpec


class LlavaFamily:
    """`LlavaForConditionalGeneration` as LLaVA-1.5's hub checkpoints have it."""

    architecture = "LlavaForConditionalGeneration"
    description = "LlavaForConditionalGeneration (CLIP tower, Llama decoder)"

    def supports(self, config: Mapping[str, Any]) -> bool:
        """Whether tower and decoder are of the known types."""
        return (
            config.get("vision_config", {}).get("model_type") == "clip_vision_model"
            and config.get("text_config", {}).get("model_type") == "llama"
            and isinstance(config.get("vision_feature_layer", -2), int)
        )

    def towers(self, config: Mapping[str, Any]) -> tuple[TowerSpec, ...]:
        """The CLIP tower up to the feature layer, then the Llama decoder."""
        parsed = _parse(config)
        vision, text = parsed.vision_config, parsed.text_config
        feature_layer = parsed.vision_feature_layer
        # hidden_states[i] is the output of layer i - 1; a negative index counts from the last.
        depth = vision.num_hidden_layers
        used = feature_layer if feature_layer >= 0 else depth + 1 + feature_layer
        tower = TowerSpec(
            name="vision", layers="model.vision_tower.encoder.layers", used_layers=used,
            heads=vision.num_attention_heads, kv_heads=vision.num_attention_heads,
            head_dim=vision.hidden_size // vision.num_attention_heads, width=vision.hidden_size,
            ffn_width=vision.intermediate_size, q="self_attn.q_proj", k="self_attn.k_proj",
            v="self_attn.v_proj", o="self_attn.out_proj", ffn_norm="layer_norm2",
            ffn_inputs=("mlp.fc1",), ffn_output="mlp.fc2", causal=False,
        )  # fmt: skip
        head_dim = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
        decoder = TowerSpec(
            name="language", layers="model.language_model.layers",
            used_layers=text.num_hidden_layers, heads=text.num_attention_heads,
            kv_heads=text.num_key_value_heads, head_dim=head_dim, width=text.hidden_size,
            ffn_width=text.intermediate_size, q="self_attn.q_proj", k="self_attn.k_proj",
            v="self_attn.v_proj", o="self_attn.o_proj", ffn_norm="post_attention_layernorm",
            ffn_inputs=("mlp.gate_proj", "mlp.up_proj"), ffn_output="mlp.down_proj", causal=True,
        )  # fmt: skip
        return tower, decoder

    def fixed_flops(self, config: Mapping[str, Any]) -> FixedFlops:
        """Patch embedding, projector, and the head's matrix for one position."""
        parsed = _parse(config)
        vision, text = parsed.vision_config, parsed.text_config
        patches = (vision.image_size // vision.patch_size) ** 2
        keeps_cls = parsed.vision_feature_select_strategy == "full"
        visual = patches + 1 if keeps_cls else patches
        return FixedFlops(
            patch_embedding=2.0 * patches * vision.num_channels * vision.patch_size**2
            * vision.hidden_size,
            projector=2.0 * visual * (vision.hidden_size + text.hidden_size) * text.hidden_size,
            lm_head=2.0 * text.hidden_size * text.vocab_size,
            visual_tokens=visual,
            vision_positions=patches + 1,
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


def _parse(config: Mapping[str, Any]) -> Any:
    """transformers' config object, with the defaults that a hub `config.json` leaves out."""
    from transformers import LlavaConfig

    plain = {k: v for k, v in config.items() if k != "compression"}
    plain["architectures"] = [
        name.removeprefix(ARCHITECTURE_PREFIX) for name in plain.get("architectures") or []
    ]
    return LlavaConfig.from_dict(plain)
