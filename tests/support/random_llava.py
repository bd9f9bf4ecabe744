"""Small random LLaVAs in the checkpoint format, compressed or not, for tests of what loads them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor
from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig, LlavaForConditionalGeneration

from compressor.checkpoint import (
    ARCHITECTURE_PREFIX,
    Compression,
    LayerShape,
    Tower,
    factor_names,
    write_json,
    writing,
)
from compressor.families import Family, TowerSpec, family_of
from models.training.architecture import IMAGE, IMAGE_TOKENS, build_tokenizer, save_processor

Towers = dict[Tower, tuple[LayerShape, ...]]

HEADS = 8
VISION_LAYERS_USED = 4
LANGUAGE_LAYERS = 8
WEIGHT_STD = 0.2  # ten times the usual: logits are far from uniform, so an argmax is no coin flip


def write_random_llava(
    directory: Path, towers: Towers | None = None, *, kv_heads: int = HEADS, seed: int = 0
) -> None:
    """Write a random LLaVA of 0.7 M parameters, float32, with the hub's names.

    Args:
        directory: where; its parent exists.
        towers: the shapes to cut it to, as `compression` records them; None writes an original.
        kv_heads: of the original's language model; fewer than 8 is grouped-query attention.
        seed: of the weights.
    """
    tokenizer = build_tokenizer()
    config = {
        **_config(tokenizer, kv_heads).to_dict(),
        "architectures": ["LlavaForConditionalGeneration"],
        "dtype": "float32",
    }
    family = family_of(config)
    tensors = _random_tensors(config, family, seed)
    if towers is not None:
        for spec in family.towers(config):
            for index, shape in enumerate(towers.get(spec.name, ())):
                _cut_layer(tensors, family.hub_name(f"{spec.layers}.{index}."), spec, shape)
        section = Compression(
            plan_sha256="0" * 64,
            original_architectures=tuple(config["architectures"]),
            towers=towers,
        )
        config["architectures"] = [f"{ARCHITECTURE_PREFIX}{n}" for n in config["architectures"]]
        config["compression"] = section.model_dump(mode="json")
    with writing(directory) as place:
        save_processor(place, tokenizer)
        write_json(place / "config.json", config)
        contiguous = {name: tensor.contiguous() for name, tensor in tensors.items()}
        save_file(contiguous, place / "model.safetensors", metadata={"format": "pt"})


def uneven_towers(kv_heads: int = HEADS, *, seed: int = 0) -> Towers:
    """Shapes that differ from layer to layer: 8 to 1 heads, and every mix of dense and factored.

    Ranks are odd on purpose: nothing may rely on multiples.
    """
    rng = np.random.default_rng(seed)
    language = tuple(
        _shape(kv_heads - index % kv_heads, kv_heads, ranks, rng)
        for index, ranks in enumerate(
            {"gate_proj": gate, "up_proj": up, "down_proj": down}
            for gate, up, down in (
                (None, None, None),
                (21, 17, 19),
                (15, None, None),
                (None, 13, 11),
                (None, None, 9),
                (7, 33, None),
                (None, None, None),
                (1, 5, 3),
            )
        )
    )
    vision = tuple(
        _shape(heads, HEADS, {"fc1": fc1, "fc2": fc2}, rng)
        for heads, fc1, fc2 in ((8, None, None), (5, 17, None), (3, None, 11), (1, 13, 5))
    )
    return {"vision": vision, "language": language}


def _shape(
    kept: int, kv_heads: int, ranks: dict[str, int | None], rng: np.random.Generator
) -> LayerShape:
    """A layer that keeps `kept` random ones of its KV groups, with all query heads of each."""
    groups = sorted(int(g) for g in rng.choice(kv_heads, size=kept, replace=False))
    size = HEADS // kv_heads
    heads = tuple(group * size + member for group in groups for member in range(size))
    return LayerShape(heads=heads, kv_heads=tuple(groups), ranks=ranks)


def _config(tokenizer: Any, kv_heads: int) -> LlavaConfig:
    vision = CLIPVisionConfig(
        hidden_size=64, intermediate_size=96, num_hidden_layers=VISION_LAYERS_USED + 1,
        num_attention_heads=HEADS, image_size=64, patch_size=8, projection_dim=64,
        hidden_act="quick_gelu",
    )  # fmt: skip
    # Heads of 32: vLLM's attention on the CPU knows no smaller ones. They are wider than hidden / 8.
    text = LlamaConfig(
        vocab_size=512, hidden_size=96, intermediate_size=160, num_hidden_layers=LANGUAGE_LAYERS,
        num_attention_heads=HEADS, num_key_value_heads=kv_heads, head_dim=32,
        max_position_embeddings=1024, rms_norm_eps=1e-5, bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
        tie_word_embeddings=False,
    )  # fmt: skip
    return LlavaConfig(
        vision_config=vision, text_config=text, vision_feature_layer=-2,
        vision_feature_select_strategy="default", projector_hidden_act="gelu",
        image_token_index=tokenizer.convert_tokens_to_ids(IMAGE), image_seq_length=IMAGE_TOKENS,
        tie_word_embeddings=False,
    )  # fmt: skip


def _random_tensors(config: dict[str, Any], family: Family, seed: int) -> dict[str, Tensor]:
    """Every tensor of the original by its hub name; norms near 1, biases not zero."""
    model = LlavaForConditionalGeneration(LlavaConfig.from_dict(config))
    generator = torch.Generator().manual_seed(seed)
    tensors: dict[str, Tensor] = {}
    for name, place in model.state_dict().items():
        noise = WEIGHT_STD * torch.randn(place.shape, generator=generator)
        is_norm = "norm" in name and name.endswith(".weight")
        tensors[family.hub_name(name)] = 1 + noise if is_norm else noise
    return tensors


def _cut_layer(tensors: dict[str, Tensor], prefix: str, spec: TowerSpec, shape: LayerShape) -> None:
    """Cut one layer's tensors to `shape`: rows of q, k, v and columns of o; FFN matrices by SVD."""
    for path, kept in ((spec.q, shape.heads), (spec.k, shape.kv_heads), (spec.v, shape.kv_heads)):
        for leaf in ("weight", "bias"):
            if (name := f"{prefix}{path}.{leaf}") in tensors:
                tensors[name] = tensors[name][_rows(kept, spec.head_dim)]
    output = f"{prefix}{spec.o}.weight"
    tensors[output] = tensors[output][:, _rows(shape.heads, spec.head_dim)]
    for path in (*spec.ffn_inputs, spec.ffn_output):
        parent, _, linear = path.rpartition(".")
        rank = shape.ranks[linear]
        if rank is None:
            continue
        first, second = (f"{prefix}{parent}.{factor}" for factor in factor_names(linear))
        left, values, right = torch.linalg.svd(tensors.pop(f"{prefix}{path}.weight"))
        tensors[f"{first}.weight"] = right[:rank]  # (rank, in)
        tensors[f"{second}.weight"] = left[:, :rank] * values[:rank]  # (out, rank)
        if (bias := tensors.pop(f"{prefix}{path}.bias", None)) is not None:
            tensors[f"{second}.bias"] = bias


def _rows(heads: tuple[int, ...], head_dim: int) -> Tensor:
    """Indices of the rows of some heads."""
    return (torch.tensor(heads)[:, None] * head_dim + torch.arange(head_dim)).flatten()
