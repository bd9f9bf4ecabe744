"""Checkpoints of random weights, to measure time, which does not ask what is computed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from compressor.checkpoint import (
    ARCHITECTURE_PREFIX,
    Compression,
    LayerShape,
    Tower,
    write_json,
)
from compressor.families import family_of
from compressor.loading import distinct, file_name, is_tied, shrink_tower

Towers = Mapping[Tower, Sequence[LayerShape]]
_SHARD_BYTES = 1 << 30


def random_tensors(
    config: Mapping[str, Any], towers: Towers, *, seed: int, std: float | None
) -> Iterator[tuple[str, Tensor]]:
    """Tensors by the hub's name, one after the other, float32, norms around one.

    Args:
        config: of the original architecture.
        towers: the shapes of the towers that are not dense.
        seed: of the weights.
        std: of the weights; None gives matrices `1 / sqrt(inputs)`, so that no layer drowns in the
            residual stream, and vectors 0.02.
    """
    family = family_of(config)
    model = family.skeleton(config)
    for spec in family.towers(config):
        shrink_tower(model, spec, tuple(towers.get(spec.name, ())))
    generator = torch.Generator().manual_seed(seed)
    places = model.state_dict()
    for name in distinct(places):
        place = places[name]
        noise = _std(place, std) * torch.randn(place.shape, generator=generator)
        is_norm = ("norm" in name or "ln_q" in name) and name.endswith(".weight")
        if name != "lm_head.weight" or not is_tied(model):
            yield file_name(family, name), 1 + noise if is_norm else noise


def _std(place: Tensor, given: float | None) -> float:
    if given is not None:
        return given
    return place.shape[-1] ** -0.5 if place.dim() > 1 else 0.02


def shaped_config(config: Mapping[str, Any], towers: Towers | None) -> dict[str, Any]:
    """The config of a compressed model with those shapes; of the original without any."""
    if towers is None:
        return dict(config)
    originals = tuple(config["architectures"])
    section = Compression(
        plan_sha256="0" * 64,
        original_architectures=originals,
        towers={tower: tuple(layers) for tower, layers in towers.items()},
    )
    return {
        **config,
        "architectures": [f"{ARCHITECTURE_PREFIX}{name}" for name in originals],
        "compression": section.model_dump(mode="json"),
    }


def write_random_weights(
    directory: Path,
    config: Mapping[str, Any],
    towers: Towers | None,
    *,
    seed: int = 0,
    std: float | None = 0.02,
    dtype: torch.dtype = torch.float32,
) -> None:
    """Write `config.json` and safetensors of a random model into a directory that exists.

    Weights are written in shards, of which one is in memory at a time.
    """
    write_json(directory / "config.json", shaped_config(config, towers))
    shard: dict[str, Tensor] = {}
    number, held = 1, 0

    def flush() -> None:
        path = directory / f"model-{number:05d}.safetensors"
        save_file(shard, path, metadata={"format": "pt"})
        shard.clear()

    for name, tensor in random_tensors(config, towers or {}, seed=seed, std=std):
        if held > _SHARD_BYTES:
            flush()
            number, held = number + 1, 0
        shard[name] = tensor.to(dtype).contiguous()
        held += shard[name].nbytes
    flush()
