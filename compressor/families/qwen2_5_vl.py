"""Qwen2.5-VL: a SwiGLU tower with window attention, a patch merger, a Qwen2 decoder with M-RoPE."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from torch import nn

from compressor.checkpoint import ARCHITECTURE_PREFIX, LayerShape, Tower
from compressor.families.base import Attention, FixedFlops, TowerSpec

_FFN_INPUTS = ("mlp.gate_proj", "mlp.up_proj")


class Qwen25VLFamily:
    """`Qwen2_5_VLForConditionalGeneration` as its hub checkpoints have it."""

    architecture = "Qwen2_5_VLForConditionalGeneration"
    description = "Qwen2_5_VLForConditionalGeneration"

    def supports(self, config: Mapping[str, Any]) -> bool:
        """Whether it is the model type of this class."""
        return config.get("model_type") == "qwen2_5_vl"

    def towers(self, config: Mapping[str, Any]) -> tuple[TowerSpec, ...]:
        """The vision tower, the patch merger, the decoder."""
        parsed = _parse(config)
        return _vision(parsed), _projector(parsed), _language(parsed)

    def fixed_flops(self, config: Mapping[str, Any], patches: int) -> FixedFlops:
        """Patch embedding of an image of `patches` patches, and the head for one position."""
        parsed = _parse(config)
        vision, text = parsed.vision_config, parsed.text_config
        values = vision.in_channels * vision.temporal_patch_size * vision.patch_size**2
        return FixedFlops(
            patch_embedding=2.0 * patches * values * vision.hidden_size,
            lm_head=2.0 * text.hidden_size * text.vocab_size,
            visual_tokens=patches // vision.spatial_merge_size**2,
            vision_positions=patches,
        )

    def hub_name(self, name: str) -> str:
        """The hub has `visual.` and `model.` beside each other; transformers 5 nests both."""
        for ours, theirs in (("model.visual.", "visual."), ("model.language_model.", "model.")):
            if name.startswith(ours):
                return name.replace(ours, theirs, 1)
        return name

    def skeleton(self, config: Mapping[str, Any]) -> nn.Module:
        """An uninitialised `Qwen2_5_VLForConditionalGeneration`."""
        from transformers import Qwen2_5_VLForConditionalGeneration
        from transformers.initialization import no_init_weights

        with no_init_weights():
            model = Qwen2_5_VLForConditionalGeneration(_parse(config))
        assert isinstance(model, nn.Module)
        return model

    def uniform_config(
        self, config: Mapping[str, Any], towers: Mapping[Tower, LayerShape]
    ) -> dict[str, Any]:
        """FFN widths; the stock classes derive the head dimension from the number of heads."""
        changed: dict[str, Any] = copy.deepcopy(dict(config))
        if "vision" in towers and towers["vision"].ffn_width is not None:
            changed["vision_config"]["intermediate_size"] = towers["vision"].ffn_width
        if "language" in towers and towers["language"].ffn_width is not None:
            # Hub configs have the text model's fields at the top level, newer ones in a section.
            text = changed.get("text_config", changed)
            text["intermediate_size"] = towers["language"].ffn_width
        return changed

    def with_depths(self, config: Mapping[str, Any], depths: Mapping[Tower, int]) -> dict[str, Any]:
        """Even layers of the tower have windows; a decoder without a list of layer types."""
        changed: dict[str, Any] = copy.deepcopy(dict(config))
        changed["vision_config"]["depth"] = depths["vision"]
        changed["vision_config"]["fullatt_block_indexes"] = list(range(1, depths["vision"], 2))
        # Hub configs have the text model's fields at the top level, newer ones in a section.
        text = changed.get("text_config", changed)
        text["num_hidden_layers"] = depths["language"]
        text.pop("layer_types", None)
        return changed

    def image_patches(self, inputs: Mapping[str, Any]) -> int:
        """Patches of the one image, from its grid."""
        return int(inputs["image_grid_thw"][0].prod())


def _vision(parsed: Any) -> TowerSpec:
    vision = parsed.vision_config
    window = (vision.window_size // vision.patch_size) ** 2
    full = set(vision.fullatt_block_indexes)
    return TowerSpec(
        name="vision", layers="model.visual.blocks", used_layers=vision.depth,
        heads=vision.num_heads, kv_heads=vision.num_heads,
        head_dim=vision.hidden_size // vision.num_heads, width=vision.hidden_size,
        ffn_width=vision.intermediate_size,
        attention=Attention("q", "k", "v", "attn.proj", fused="attn.qkv", counts=("attn.num_heads",)),
        ffn_norm="norm2", ffn_inputs=_FFN_INPUTS, ffn_output="mlp.down_proj",
        windows=tuple(None if i in full else window for i in range(vision.depth)),
        uniform_heads=False,
    )  # fmt: skip


def _projector(parsed: Any) -> TowerSpec:
    vision = parsed.vision_config
    inner = vision.hidden_size * vision.spatial_merge_size**2
    return TowerSpec(
        name="projector", layers="model.visual.merger", used_layers=1,
        heads=0, kv_heads=0, head_dim=0, width=vision.out_hidden_size, ffn_width=inner,
        attention=None, ffn_norm="", ffn_inputs=("mlp.0",), ffn_output="mlp.2", reads=inner,
        uniform_heads=False, uniform_ffn=False,
    )  # fmt: skip


def _language(parsed: Any) -> TowerSpec:
    text = parsed.text_config
    return TowerSpec(
        name="language", layers="model.language_model.layers", used_layers=text.num_hidden_layers,
        heads=text.num_attention_heads, kv_heads=text.num_key_value_heads,
        head_dim=text.hidden_size // text.num_attention_heads, width=text.hidden_size,
        ffn_width=text.intermediate_size,
        attention=Attention(
            "self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj"
        ),
        ffn_norm="post_attention_layernorm", ffn_inputs=_FFN_INPUTS, ffn_output="mlp.down_proj",
        uniform_heads=False,
    )  # fmt: skip


def _parse(config: Mapping[str, Any]) -> Any:
    """transformers' config object, with the defaults that a hub `config.json` leaves out."""
    from transformers import Qwen2_5_VLConfig

    plain = {k: v for k, v in config.items() if k != "compression"}
    plain["architectures"] = [
        name.removeprefix(ARCHITECTURE_PREFIX) for name in plain.get("architectures") or []
    ]
    return Qwen2_5_VLConfig.from_dict(plain)
