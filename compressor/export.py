"""Export: the compressed model as a checkpoint directory, whole or not at all."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import nn

from compressor.checkpoint import (
    ARCHITECTURE_PREFIX,
    MANIFEST,
    Compression,
    read_config,
    write_json,
    writing,
)
from compressor.families import Family
from compressor.loading import file_name
from compressor.plan import Plan
from compressor.report import Report, model_card

_NOT_COPIED = {MANIFEST, "README.md", "config.json", "plan.json", "report.json"}
_NOT_COPIED_SUFFIXES = (".safetensors", ".safetensors.index.json", ".py")


def export(
    model: nn.Module, family: Family, source: Path, target: Path, plan: Plan, report: Report
) -> None:
    """Write a checkpoint: weights in the original's dtype, config, plan, model card, manifest last.

    Processor and tokenizer files are copied from `source`.

    Raises:
        CheckpointError: `target` exists and is not a model of this project.
    """
    config = read_config(source)
    with writing(target) as directory:
        for path in sorted(source.iterdir()):
            if (
                path.is_file()
                and path.name not in _NOT_COPIED
                and not path.name.endswith(_NOT_COPIED_SUFFIXES)
            ):
                shutil.copyfile(path, directory / path.name)
        dtype = stored_dtype(config)
        tensors = {
            file_name(family, name): tensor.to(dtype).contiguous()
            for name, tensor in model.state_dict().items()
        }
        save_file(tensors, directory / "model.safetensors", metadata={"format": "pt"})
        write_json(directory / "config.json", compressed_config(config, plan))
        write_json(directory / "plan.json", plan.model_dump(mode="json"))
        write_json(directory / "report.json", report.to_json())
        (directory / "README.md").write_text(model_card(report, plan))


def stored_dtype(config: dict[str, Any]) -> torch.dtype:
    """The dtype that a config declares; bfloat16 where it declares none."""
    name = config.get("dtype") or config.get("torch_dtype") or "bfloat16"
    dtype = getattr(torch, str(name).removeprefix("torch."), None)
    return dtype if isinstance(dtype, torch.dtype) else torch.bfloat16


def compressed_config(config: dict[str, Any], plan: Plan) -> dict[str, Any]:
    """The original's config with our architecture's name and the `compression` section."""
    originals = tuple(config.get("architectures") or ())
    section = Compression(
        plan_sha256=plan.sha256, original_architectures=originals, towers=plan.towers
    )
    return {
        **config,
        "architectures": [f"{ARCHITECTURE_PREFIX}{name}" for name in originals],
        "compression": section.model_dump(mode="json"),
    }
