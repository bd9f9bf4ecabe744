"""What a model directory is worth in parameters and FLOPs, without loading its weights."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from compressor.checkpoint import Compression, read_config, verify
from compressor.evaluate.datasets import Example, examples
from compressor.evaluate.runner import render
from compressor.families import family_of
from compressor.flops import RequestFlops, request_flops
from compressor.recipe import Calibration


@dataclass(frozen=True)
class Inspection:
    """Size and cost of a model."""

    params: int
    flops: RequestFlops
    compressed: bool


def inspect(directory: Path) -> Inspection:
    """Look at a model directory; FLOPs are for the prompts of the default calibration data.

    Raises:
        CompressorError: it is not a whole model of a known family.
    """
    from transformers import AutoProcessor

    config = read_config(directory)
    family = family_of(config)
    verify(directory)
    compression = Compression.of_config(config)
    processor: Any = AutoProcessor.from_pretrained(directory)
    flops = request_flops(
        family.towers(config),
        compression.towers if compression else {},
        family.fixed_flops(config),
        text_tokens=mean_text_tokens(
            processor, examples(Calibration().dataset, "train", samples=64)
        ),
    )
    params = sum(count_parameters(path) for path in directory.glob("*.safetensors"))
    return Inspection(params, flops, compression is not None)


def mean_text_tokens(processor: Any, asked: Sequence[Example]) -> int:
    """Tokens of an average prompt, without those that stand for the image."""
    image = processor.image_token
    texts = [render(processor, example).replace(image, "") for example in asked]
    lengths = [len(processor.tokenizer.encode(t, add_special_tokens=False)) for t in texts]
    return round(sum(lengths) / len(lengths))


def count_parameters(path: Path) -> int:
    """Elements of all tensors of a safetensors file, read from its header."""
    with path.open("rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    return sum(math.prod(v["shape"]) for k, v in header.items() if k != "__metadata__")
