"""What a model directory is worth in parameters and FLOPs, without loading its weights."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from compressor.checkpoint import Compression, read_config, verify
from compressor.families import family_of
from compressor.flops import RequestFlops, request_flops
from compressor.inputs import reference_request


@dataclass(frozen=True)
class Inspection:
    """Size and cost of a model."""

    params: int
    flops: RequestFlops
    compressed: bool


def inspect(directory: Path) -> Inspection:
    """Look at a model directory; FLOPs are for the reference request.

    Raises:
        CompressorError: it is not a whole model of a known family.
    """
    from transformers import AutoProcessor

    config = read_config(directory)
    family = family_of(config)
    verify(directory)
    compression = Compression.of_config(config)
    processor: Any = AutoProcessor.from_pretrained(directory)
    text_tokens, patches = reference_request(processor, family)
    flops = request_flops(
        family.towers(config),
        compression.towers if compression else {},
        family.fixed_flops(config, patches),
        text_tokens=text_tokens,
    )
    params = sum(count_parameters(path) for path in directory.glob("*.safetensors"))
    return Inspection(params, flops, compression is not None)


def count_parameters(path: Path) -> int:
    """Elements of all tensors of a safetensors file, read from its header."""
    with path.open("rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    return sum(math.prod(v["shape"]) for k, v in header.items() if k != "__metadata__")
