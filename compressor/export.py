"""Export: the compressed model as a checkpoint directory, whole or not at all.

First a candidate is written in the work directory: weights, config, processor. It is what evaluation
loads, so what was measured is what is published. Then the report joins it, and the directory moves to
its place with the manifest written last.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from compressor.checkpoint import (
    ARCHITECTURE_PREFIX,
    MANIFEST,
    WEIGHTS,
    Compression,
    LayerShape,
    Tower,
    read_config,
    write_json,
    writing,
)
from compressor.errors import CheckpointError, DiskFullError
from compressor.families import Family, TowerSpec
from compressor.leftovers import clear
from compressor.loading import file_name, is_tied
from compressor.plan import Plan
from compressor.report.data import Evidence
from compressor.report.write import write_report
from compressor.work import Work

PLAN = "plan.json"
_NOT_COPIED = {
    MANIFEST,
    "README.md",
    "config.json",
    PLAN,
    "report.json",
    "training_log.jsonl",
}
_NOT_COPIED_SUFFIXES = (".safetensors", ".safetensors.index.json", ".py")


_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
PRUNED, HEALED = "candidate", "healed"


@dataclass(frozen=True)
class Candidate:
    """A loadable model that has no report and no manifest yet."""

    directory: Path


def write_candidate(
    work: Work,
    model: nn.Module,
    specs: Sequence[TowerSpec],
    family: Family,
    source: Path,
    plan: Plan,
) -> Candidate:
    """Write weights, config and processor of the pruned model, in the original's dtype."""
    directory = work.path(f"{PRUNED}/x").parent
    if has_candidate(work, PRUNED):
        return Candidate(directory)
    config = read_config(source)
    dtype = stored_dtype(config)
    tensors = {
        file_name(family, name): tensor.to(dtype).contiguous()
        for name, tensor in _tensors(work, model, specs, plan).items()
    }
    with one_sentence_when_full(directory):
        for path in copied_files(source):
            shutil.copyfile(path, directory / path.name)
        save_file(tensors, directory / WEIGHTS, metadata={"format": "pt"})
        write_json(directory / "config.json", compressed_config(config, family, plan))
    work.save_json(f"{PRUNED}.json", True)
    return Candidate(directory)


def has_candidate(work: Work, name: str) -> bool:
    """Whether a candidate is whole."""
    return work.has(f"{name}.json")


def write_healed(work: Work, model: nn.Module, family: Family, candidate: Candidate) -> Candidate:
    """Write a candidate with the weights of a trained model, in the dtype of the untrained one."""
    directory = work.path(f"{HEALED}/x").parent
    dtype = stored_dtype(read_config(candidate.directory))
    tensors = {
        file_name(family, name): tensor.to(dtype).contiguous()
        for name, tensor in model.state_dict().items()
        if name != "lm_head.weight" or not is_tied(model)
    }
    with one_sentence_when_full(directory):
        for path in copied_files(candidate.directory):
            shutil.copyfile(path, directory / path.name)
        shutil.copyfile(candidate.directory / "config.json", directory / "config.json")
        save_file(tensors, directory / WEIGHTS, metadata={"format": "pt"})
    work.save_json(f"{HEALED}.json", True)
    return Candidate(directory)


def _tensors(
    work: Work, model: nn.Module, specs: Sequence[TowerSpec], plan: Plan
) -> dict[str, Tensor]:
    """Every tensor of the compressed model, by transformers' name: the original's, or the pruned.

    All in files still, so that a model is written that is larger than memory.
    """
    replaced: dict[str, Tensor] = {}
    prefixes: list[str] = []
    for spec in specs:
        layers = plan.towers.get(spec.name)
        if not layers:
            continue
        for index in range(spec.used_layers):
            path = spec.block_path(index)
            prefixes.append(f"{path}.")
            tensors = work.map_tensors(f"prune/{spec.name}-{index}.safetensors")
            replaced |= {f"{path}.{name}": tensor for name, tensor in tensors.items()}
    found = {
        name: tensor
        for name, tensor in model.state_dict().items()
        if not name.startswith(tuple(prefixes))
    }
    if is_tied(model):
        found.pop("lm_head.weight", None)
    if plan.layout == "uniform":
        for spec in specs:
            if spec.name in plan.towers:
                _cut_idle(found, spec, plan.towers[spec.name][0].ffn_width)
    return found | replaced


def _cut_idle(tensors: dict[str, Tensor], spec: TowerSpec, width: int | None) -> None:
    """Give blocks that nothing reads the width that a stock config states for all of them."""
    for block in spec.idle if width is not None else ():
        for path in spec.matrices:
            for kind in ("weight", "bias"):
                name = f"{block}.{path}.{kind}"
                if name not in tensors:
                    continue
                if path != spec.ffn_output:
                    tensors[name] = tensors[name][:width]
                elif kind == "weight":
                    tensors[name] = tensors[name][:, :width]


def check_target(target: Path, *, overwrite: bool = False) -> None:
    """Ask before the work begins whether a compressed model may go to `target`.

    Args:
        target: where the model is to appear.
        overwrite: a model that was compressed before may be replaced; an original never is.

    Raises:
        CheckpointError: something is there that is not to be replaced.
    """
    if not os.path.lexists(target):
        return
    if not overwrite:
        raise CheckpointError(f"{str(target)!r} exists; choose another place for the new model.")
    if not ((target / MANIFEST).is_file() and (target / PLAN).is_file()):
        raise CheckpointError(
            f"{str(target)!r} is not a model that infoprune compressed, so it is not overwritten; "
            "choose another place."
        )


def publish(candidate: Candidate, target: Path, evidence: Evidence) -> None:
    """Move a candidate to its place, with plan, report and model card, manifest last.

    A model that is there is replaced: `check_target` was asked before.

    Raises:
        CheckpointError: `target` exists and is not a model of this project, or the disk is full.
    """
    clear(target)
    with one_sentence_when_full(target), writing(target) as directory:
        for path in sorted(candidate.directory.iterdir()):
            _link(path, directory / path.name)
        write_json(directory / PLAN, evidence.plan.model_dump(mode="json"))
        write_report(directory, evidence)


def _link(source: Path, target: Path) -> None:
    """The same bytes under another name; a copy where the file system has no links."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def copied_files(source: Path) -> list[Path]:
    """Processor and tokenizer files of a model directory."""
    return [
        path
        for path in sorted(source.iterdir())
        if path.is_file()
        and path.name not in _NOT_COPIED
        and not path.name.endswith(_NOT_COPIED_SUFFIXES)
    ]


class one_sentence_when_full:  # noqa: N801 - used as a statement
    """Turn a full disk, or a file that may not grow, into a `DiskFullError`."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        full = isinstance(error, OSError) and error.errno in _FULL
        # safetensors has an exception of its own, with the system's number in its words.
        told = type(error).__name__ == "SafetensorError" and any(
            f"os error {number}" in str(error) for number in _FULL
        )
        if full or told:
            raise DiskFullError(
                f"The disk is full while writing {str(self.target)!r}; free some space and give the "
                "same command again, which goes on where it was."
            ) from error


def stored_dtype(config: Mapping[str, Any]) -> torch.dtype:
    """The dtype that a config declares; bfloat16 where it declares none."""
    name = config.get("dtype") or config.get("torch_dtype") or "bfloat16"
    dtype = getattr(torch, str(name).removeprefix("torch."), None)
    return dtype if isinstance(dtype, torch.dtype) else torch.bfloat16


def compressed_config(config: dict[str, Any], family: Family, plan: Plan) -> dict[str, Any]:
    """The original's config with the `compression` section.

    In the adaptive layout under our architecture's name, with every layer's shape in the section; in
    the uniform layout under the stock name, with the shapes in the stock fields.
    """
    originals = tuple(config.get("architectures") or ())
    shapes: dict[Tower, tuple[LayerShape, ...]] = {
        tower: tuple(layer.shape() for layer in layers) for tower, layers in plan.towers.items()
    }
    uniform = plan.layout == "uniform"
    section = Compression(
        layout=plan.layout,
        plan_sha256=plan.sha256,
        original_architectures=originals,
        towers={} if uniform else shapes,
    )
    if uniform:
        changed = family.uniform_config(config, {tower: each[0] for tower, each in shapes.items()})
    else:
        changed = {**config, "architectures": [f"{ARCHITECTURE_PREFIX}{n}" for n in originals]}
    return {**changed, "compression": section.model_dump(mode="json")}
