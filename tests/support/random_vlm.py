"""Small random models of every family in the checkpoint format, compressed or not, to be loaded."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal, get_args

from safetensors.torch import save_file
from transformers import (
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    MistralConfig,
    PreTrainedTokenizerFast,
    Qwen2_5_VLConfig,
    Qwen2Config,
    SiglipVisionConfig,
)

from compressor.checkpoint import LayerShape, Tower, write_json, writing
from compressor.families import TowerSpec, family_of, leaf
from compressor.random_model import random_tensors, shaped_config
from models.training.architecture import (
    CLIP_MEAN,
    CLIP_STD,
    IMAGE,
    IMAGE_TOKENS,
    VOCABULARY,
    build_tokenizer,
    save_processor,
)

Kind = Literal["clip-llama", "clip-mistral", "siglip-qwen2", "qwen2.5-vl"]
KINDS: tuple[Kind, ...] = get_args(Kind)
Towers = dict[Tower, tuple[LayerShape, ...]]

HEADS = 8
WEIGHT_STD = 0.2  # ten times the usual: logits are far from uniform, so an argmax is no coin flip
_QWEN_TOKENS = {
    "image": "<|image_pad|>", "video": "<|video_pad|>",
    "start": "<|vision_start|>", "end": "<|vision_end|>",
}  # fmt: skip
_QWEN_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}{{ message['role'] + ': ' }}"
    "{% for part in message['content'] %}{% if part['type'] in ('image', 'image_url') %}"
    "{{ '<|vision_start|><|image_pad|><|vision_end|>' }}{% elif part['type'] == 'text' %}"
    "{{ part['text'] + ' ' }}{% endif %}{% endfor %}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'assistant:' }}{% endif %}"
)


def write_random_vlm(
    directory: Path,
    kind: Kind,
    towers: Towers | None = None,
    *,
    seed: int = 0,
    kv_heads: int | None = None,
) -> None:
    """Write a random model of less than a million parameters, float32, with the hub's names.

    Args:
        directory: where; its parent exists.
        kind: tower and decoder.
        towers: the shapes that it has, as `compression` records them; None writes an original.
        seed: of the weights.
        kv_heads: of the language model; fewer than its heads is grouped-query attention.
    """
    tokenizer = _qwen_tokenizer() if kind == "qwen2.5-vl" else build_tokenizer()
    config = random_config(kind, tokenizer, kv_heads)
    tensors = dict(random_tensors(config, towers or {}, seed=seed, std=WEIGHT_STD))
    with writing(directory) as place:
        _save_processor(place, kind, tokenizer)
        write_json(place / "config.json", shaped_config(config, towers))
        save_file(tensors, place / "model.safetensors", metadata={"format": "pt"})


def write_random_llava(
    directory: Path, towers: Towers | None = None, *, kv_heads: int = HEADS, seed: int = 0
) -> Path:
    """The LLaVA with a CLIP tower and a Llama decoder; returns its directory."""
    write_random_vlm(directory, "clip-llama", towers, seed=seed, kv_heads=kv_heads)
    return directory


def random_config(
    kind: Kind, tokenizer: PreTrainedTokenizerFast, kv_heads: int | None = None
) -> dict[str, Any]:
    """A small config of that kind, as hub checkpoints have it."""
    if kind == "qwen2.5-vl":
        config, name = _qwen_config(tokenizer, kv_heads or 2), "Qwen2_5_VLForConditionalGeneration"
    else:
        config, name = _llava_config(kind, tokenizer, kv_heads), "LlavaForConditionalGeneration"
    return {**config.to_dict(), "architectures": [name], "dtype": "float32"}


def uneven_shapes(
    kind: Kind, kv_heads: int | None = None, *, without: tuple[Tower, ...] = ()
) -> Towers:
    """Shapes that differ from layer to layer: all heads to one group, every kind of FFN.

    Sizes are odd on purpose: nothing may rely on multiples.
    """
    tokenizer = _qwen_tokenizer() if kind == "qwen2.5-vl" else build_tokenizer()
    config = random_config(kind, tokenizer, kv_heads)
    return {
        spec.name: tuple(_uneven(spec, index) for index in range(spec.used_layers))
        for spec in family_of(config).towers(config)
        if spec.name not in without
    }


def uneven_towers(kv_heads: int = HEADS) -> Towers:
    """Uneven shapes of the LLaVA with a CLIP tower and a Llama decoder."""
    return uneven_shapes("clip-llama", kv_heads)


def _uneven(spec: TowerSpec, index: int) -> LayerShape:
    """Fewer groups in each layer; dense, factored, narrow, partly factored, narrow and factored.

    Of the attention nothing, all with one input factor for q, k and v, the output alone, v alone, or q
    and k apart is factored.
    """
    kept = tuple(range(index % max(1, spec.kv_heads), spec.kv_heads))
    names = [leaf(path) for path in spec.matrices]
    ranks: dict[str, int | None] = dict.fromkeys(names)
    width = None
    pattern = index % 5 if spec.attention else 3
    if pattern == 1:  # gate and up as one
        ranks = {name: 13 + 4 * number for number, name in enumerate(spec.ffn_names)}
    if pattern == 4:
        ranks = {name: 13 + 4 * number for number, name in enumerate(names)}
    if pattern == 3:
        ranks[names[-1]] = 9
    if pattern in (2, 4):
        width = spec.ffn_width // 2 - 3
    projections = [leaf(path) for path in spec.projections]
    q, k, v, o = [None] * (4 - len(projections)) + projections
    chosen = ((), spec.factored, (o,), (v,), (q, k))[index % 5]
    return LayerShape(
        heads=tuple(g * spec.group + i for g in kept for i in range(spec.group)),
        kv_heads=kept,
        ranks=ranks,
        ffn_width=width,
        attention_ranks={name: 7 + 2 * i for i, name in enumerate(chosen) if name},
    )


def _llava_config(
    kind: Kind, tokenizer: PreTrainedTokenizerFast, kv_heads: int | None
) -> LlavaConfig:
    shared = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 5}
    shared |= {"num_attention_heads": HEADS, "image_size": 64, "patch_size": 8}
    vision: Any = SiglipVisionConfig(**shared)
    if kind != "siglip-qwen2":
        vision = CLIPVisionConfig(**shared, projection_dim=64, hidden_act="quick_gelu")
    # Heads of 32: vLLM's attention on the CPU knows no smaller ones.
    text_options: dict[str, Any] = {
        "vocab_size": VOCABULARY, "intermediate_size": 160, "num_hidden_layers": 8,
        "max_position_embeddings": 1024, "rms_norm_eps": 1e-5,
        "bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id, "tie_word_embeddings": False,
    }  # fmt: skip
    if kind == "siglip-qwen2":
        text: Any = Qwen2Config(
            **text_options,
            hidden_size=128,
            num_attention_heads=4,
            num_key_value_heads=kv_heads or 2,
        )
    else:
        made = LlamaConfig if kind == "clip-llama" else MistralConfig
        more = {"sliding_window": None} if kind == "clip-mistral" else {}
        # Heads that are wider than hidden / 8.
        text = made(
            **text_options, **more, hidden_size=96, head_dim=32, num_attention_heads=HEADS,
            num_key_value_heads=kv_heads or (HEADS if kind == "clip-llama" else 2),
        )  # fmt: skip
    return LlavaConfig(
        vision_config=vision, text_config=text, vision_feature_layer=-2,
        vision_feature_select_strategy="full" if kind == "siglip-qwen2" else "default",
        projector_hidden_act="gelu", image_seq_length=IMAGE_TOKENS,
        image_token_index=tokenizer.convert_tokens_to_ids(IMAGE), tie_word_embeddings=False,
    )  # fmt: skip


def _qwen_tokenizer() -> PreTrainedTokenizerFast:
    tokenizer = build_tokenizer()
    tokenizer.add_special_tokens({"image_token": _QWEN_TOKENS["image"]})
    rest = [_QWEN_TOKENS[name] for name in ("video", "start", "end")]
    tokenizer.add_tokens(rest, special_tokens=True)
    tokenizer.chat_template = _QWEN_TEMPLATE
    return tokenizer


def _qwen_config(tokenizer: PreTrainedTokenizerFast, kv_heads: int) -> Qwen2_5_VLConfig:
    """Windows of 4x4 patches in an image of 8x8, full attention in the last layer; tied embeddings."""
    token = {k: tokenizer.convert_tokens_to_ids(v) for k, v in _QWEN_TOKENS.items()}
    vision = {
        "depth": 5, "hidden_size": 64, "intermediate_size": 96, "num_heads": 4, "patch_size": 8,
        "window_size": 32, "fullatt_block_indexes": [4], "out_hidden_size": 128,
        "spatial_merge_size": 2, "temporal_patch_size": 2, "in_channels": 3, "hidden_act": "silu",
    }  # fmt: skip
    text = {
        "vocab_size": VOCABULARY + 8, "hidden_size": 128, "intermediate_size": 160,
        "num_hidden_layers": 5,
        "num_attention_heads": 4, "num_key_value_heads": kv_heads, "max_position_embeddings": 1024,
        "rms_norm_eps": 1e-5, "hidden_act": "silu", "tie_word_embeddings": True,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [4, 6, 6]},
        "bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }  # fmt: skip
    return Qwen2_5_VLConfig(
        vision_config=vision, text_config=text, image_token_id=token["image"],
        video_token_id=token["video"], vision_start_token_id=token["start"],
        vision_end_token_id=token["end"], tie_word_embeddings=True,
    )  # fmt: skip


def _save_processor(directory: Path, kind: Kind, tokenizer: PreTrainedTokenizerFast) -> None:
    if kind != "qwen2.5-vl":
        save_processor(directory, tokenizer)
        if kind == "siglip-qwen2":
            path = directory / "processor_config.json"
            changed = {"num_additional_image_tokens": 0, "vision_feature_select_strategy": "full"}
            path.write_text(json.dumps({**json.loads(path.read_text()), **changed}))
        return
    tokenizer.save_pretrained(directory)
    image = {
        "image_processor_type": "Qwen2VLImageProcessor", "patch_size": 8, "merge_size": 2,
        "temporal_patch_size": 2, "min_pixels": 64 * 64, "max_pixels": 64 * 64,
        "size": {"shortest_edge": 64 * 64, "longest_edge": 64 * 64},
        # vLLM normalises on the device, by what the file says rather than by the class's defaults.
        "do_resize": True, "do_rescale": True, "do_normalize": True, "do_convert_rgb": True,
        "image_mean": list(CLIP_MEAN), "image_std": list(CLIP_STD), "rescale_factor": 1 / 255,
    }  # fmt: skip
    write_json(directory / "preprocessor_config.json", image)
    write_json(directory / "processor_config.json", {"processor_class": "Qwen2_5_VLProcessor"})
    (directory / "chat_template.jinja").write_text(_QWEN_TEMPLATE)
