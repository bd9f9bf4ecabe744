"""Random LLaVAs in LLaVA-1.5's proportions, original and compressed: speed needs no trained weights."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig

from compressor.checkpoint import write_json, writing
from compressor.random_model import Towers, shaped_config, write_random_weights
from models.training.architecture import IMAGE, build_tokenizer, save_processor

PATCH_PX = 14


@dataclass(frozen=True)
class Size:
    """What a model of the benchmark is made of; heads of the tower have 64 numbers."""

    image_px: int
    vision_layers: int
    """The last one is not used, as in LLaVA-1.5."""
    vision_width: int
    layers: int
    width: int
    head_dim: int
    ffn_width: int
    vocabulary: int = 32_000


SIZES = {
    # 0.5 B parameters, 576 visual tokens.
    "default": Size(336, 24, 512, 18, 1280, 128, 3456),
    "tiny": Size(112, 4, 128, 4, 256, 64, 688, 1024),
    # LLaVA-1.5-7B.
    "gpu": Size(336, 24, 1024, 32, 4096, 128, 11008),
}


def model_config(size: Size) -> dict[str, Any]:
    """The config of an original, as hub checkpoints have it."""
    tokenizer = build_tokenizer()
    vision = CLIPVisionConfig(
        hidden_size=size.vision_width, intermediate_size=4 * size.vision_width,
        num_hidden_layers=size.vision_layers, num_attention_heads=size.vision_width // 64,
        image_size=size.image_px, patch_size=PATCH_PX, projection_dim=size.vision_width,
        hidden_act="quick_gelu",
    )  # fmt: skip
    heads = size.width // size.head_dim
    text = LlamaConfig(
        vocab_size=size.vocabulary, hidden_size=size.width, intermediate_size=size.ffn_width,
        num_hidden_layers=size.layers, num_attention_heads=heads, num_key_value_heads=heads,
        head_dim=size.head_dim, max_position_embeddings=4096, rms_norm_eps=1e-5,
        bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id, tie_word_embeddings=False,
    )  # fmt: skip
    config = LlavaConfig(
        vision_config=vision, text_config=text, vision_feature_layer=-2,
        vision_feature_select_strategy="default", projector_hidden_act="gelu",
        image_token_index=tokenizer.convert_tokens_to_ids(IMAGE),
        image_seq_length=(size.image_px // PATCH_PX) ** 2, tie_word_embeddings=False,
    )  # fmt: skip
    architectures = ["LlavaForConditionalGeneration"]
    return {**config.to_dict(), "architectures": architectures, "dtype": "bfloat16"}


def write_model(
    directory: Path, size: Size, towers: Towers | None, dtype: torch.dtype, *, weights: bool
) -> None:
    """Write a checkpoint, the original's (no towers) or that of the given shapes, weights or not."""
    config = {**model_config(size), "dtype": str(dtype).removeprefix("torch.")}
    with writing(directory) as place:
        save_processor(place, build_tokenizer())
        _resize(place, size)
        if weights:
            write_random_weights(place, config, towers, dtype=dtype)
        else:
            write_json(place / "config.json", shaped_config(config, towers))


def _resize(directory: Path, size: Size) -> None:
    """Give the bundled model's processor another image and patch size."""
    px = size.image_px
    changes: dict[str, dict[str, Any]] = {
        "preprocessor_config.json": {
            "crop_size": {"height": px, "width": px},
            "size": {"shortest_edge": px},
        },
        "processor_config.json": {"patch_size": PATCH_PX},
    }
    for name, change in changes.items():
        path = directory / name
        path.write_text(json.dumps({**json.loads(path.read_text()), **change}, indent=2) + "\n")
