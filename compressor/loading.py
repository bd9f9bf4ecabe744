"""Load an original or compressed checkpoint into transformers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from compressor.checkpoint import (
    GATE_UP,
    JOINED,
    QKV,
    Compression,
    LayerShape,
    factor_names,
    read_config,
    verify,
)
from compressor.errors import CheckpointError
from compressor.families import Family, TowerSpec, family_of, leaf
from compressor.families.base import Attention

_SHARED = ".shared_factor."


class FactoredLinear(nn.Module):
    """`y = B (A x) + bias`: A is (rank, in), B is (out, rank)."""

    def __init__(self, in_features: int, out_features: int, rank: int, *, bias: bool) -> None:
        super().__init__()
        self.in_factor = empty_linear(in_features, rank, bias=False)
        self.out_factor = empty_linear(rank, out_features, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """(..., in) -> (..., out)."""
        y: Tensor = self.out_factor(self.in_factor(x))
        return y


class SharedFactorLinear(nn.Module):
    """`y = B (A x) + bias` with a module A that other linears of the same inputs have too."""

    def __init__(self, shared_factor: nn.Linear, out_factor: nn.Linear) -> None:
        super().__init__()
        self.shared_factor, self.out_factor = shared_factor, out_factor

    def forward(self, x: Tensor) -> Tensor:
        """(..., in) -> (..., out)."""
        y: Tensor = self.out_factor(self.shared_factor(x))
        return y


def load(directory: str | Path, *, dtype: torch.dtype | None = None) -> nn.Module:
    """The transformers model of a checkpoint, compressed or not, in evaluation mode.

    Args:
        directory: a Hugging Face model directory with safetensors.
        dtype: of the loaded weights; by default the checkpoint's own.

    Raises:
        CheckpointError: the directory is not a whole model.
        UnsupportedArchitectureError: no family knows it.
    """
    family_of(read_config(Path(directory)))
    verify(Path(directory))
    return assemble(Path(directory), dtype)


def assemble(directory: Path, dtype: torch.dtype | None) -> nn.Module:
    """`load` without verifying: for a directory that this process has just written."""
    config = read_config(directory)
    family = family_of(config)
    model = family.skeleton(config)
    compression = Compression.of_config(config)
    if compression is not None:
        for spec in family.towers(config):
            shrink_tower(model, spec, compression.towers.get(spec.name, ()))
    _assign(model, family, read_tensors(directory), dtype)
    return model.eval()


def asking_dtype(device: torch.device) -> torch.dtype | None:
    """The dtype that a model is asked in: float32 on a CPU, the checkpoint's own (None) on a GPU."""
    return None if device.type == "cuda" else torch.float32


def shrink_tower(model: nn.Module, spec: TowerSpec, shapes: tuple[LayerShape, ...]) -> None:
    """Give a tower's layers the recorded shapes, with uninitialised weights."""
    for block, shape in zip(spec.blocks(model), shapes, strict=False):
        shrink_block(block, spec, shape)


def shrink_block(block: nn.Module, spec: TowerSpec, shape: LayerShape) -> None:
    """Give one layer its recorded shape, with uninitialised weights."""
    if spec.attention is not None:
        _shrink_attention(block, spec, spec.attention, shape)
    sizes = {path: spec.matrix_shape(leaf(path), shape.ffn_width) for path in spec.matrices}
    if (joint := shape.ranks.get(GATE_UP)) is not None:
        _share_factor(block, {path: sizes.pop(path) for path in spec.ffn_inputs}, joint)
    for path, size in sizes.items():
        _shrink_linear(block, path, size, shape.ranks.get(leaf(path)))


def _shrink_linear(
    block: nn.Module, path: str, size: tuple[int, int], rank: int | None = None
) -> None:
    """A linear of `size` = (out, in) in place of the one at `path`, dense or factored."""
    old, (rows, columns) = linear_at(block, path), size
    bias = old.bias is not None
    if rank is not None:
        set_module(block, path, FactoredLinear(columns, rows, rank, bias=bias))
    elif size != (old.out_features, old.in_features):
        set_module(block, path, empty_linear(columns, rows, bias=bias))


def _share_factor(block: nn.Module, sizes: dict[str, tuple[int, int]], rank: int) -> None:
    """Linears of these sizes, (out, in) by path, with one input factor."""
    _, columns = next(iter(sizes.values()))
    shared = empty_linear(columns, rank, bias=False)
    for path, (rows, _) in sizes.items():
        own = empty_linear(rank, rows, bias=linear_at(block, path).bias is not None)
        set_module(block, path, SharedFactorLinear(shared, own))


def _shrink_attention(
    block: nn.Module, spec: TowerSpec, attention: Attention, shape: LayerShape
) -> None:
    sizes = spec.projection_shapes(len(shape.heads), len(shape.kv_heads))
    if attention.fused is not None:
        rows = sum(sizes[leaf(path)][0] for path in (attention.q, attention.k, attention.v))
        _shrink_linear(block, attention.fused, (rows, spec.width))
    joint = shape.attention_ranks.get(QKV)
    if joint is not None:
        inputs = (attention.q, attention.k, attention.v)
        _share_factor(block, {path: sizes[leaf(path)] for path in inputs}, joint)
    for path in spec.projections if joint is None else (attention.o,):
        _shrink_linear(block, path, sizes[leaf(path)], shape.attention_ranks.get(leaf(path)))
    set_head_counts(block, attention, len(shape.heads))


def set_head_counts(block: nn.Module, attention: Attention, heads: int) -> None:
    """Tell a block's forward how many query heads it has, where it keeps that in an attribute."""
    for path in attention.counts:
        parent, _, name = path.rpartition(".")
        setattr(block.get_submodule(parent), name, heads)


def linear_at(root: nn.Module, path: str) -> nn.Linear:
    """The linear at a path.

    Raises:
        CheckpointError: it is something else.
    """
    module = root.get_submodule(path)
    if not isinstance(module, nn.Linear):
        raise CheckpointError(f"{path} is a {type(module).__name__}, not a linear layer.")
    return module


def set_module(root: nn.Module, path: str, module: nn.Module) -> None:
    """Put a module at a path."""
    parent, _, name = path.rpartition(".")
    setattr(root.get_submodule(parent), name, module)


def distinct(names: Iterable[str]) -> Iterator[str]:
    """Names of a `state_dict` without the repeats of factors that several linears share."""
    seen: set[str] = set()
    for name in names:
        linear, shared, _ = name.partition(_SHARED)
        place = linear.rpartition(".")[0]
        if shared and place in seen:
            continue
        if shared:
            seen.add(place)
        yield name


def file_name(family: Family, name: str) -> str:
    """The name in a checkpoint of a tensor of `state_dict`, factored or not."""
    for index, part in ((0, ".in_factor."), (0, _SHARED), (1, ".out_factor.")):
        if part in name:
            module, _, leaf = name.partition(part)
            parent, _, linear = module.rpartition(".")
            linear = JOINED[linear] if part == _SHARED else linear
            return f"{family.hub_name(parent + '.')}{factor_names(linear)[index]}.{leaf}"
    return family.hub_name(name)


def empty_linear(in_features: int, out_features: int, *, bias: bool) -> nn.Linear:
    """A linear whose weights are uninitialised: they are about to be assigned."""
    return nn.utils.skip_init(nn.Linear, in_features, out_features, bias=bias)


def read_tensors(directory: Path) -> dict[str, Tensor]:
    """Every tensor of a directory by its name in the file, memory-mapped."""
    tensors: dict[str, Tensor] = {}
    for path in sorted(directory.glob("*.safetensors")):
        tensors |= load_file(path)
    return tensors


def _assign(
    model: nn.Module, family: Family, tensors: dict[str, Tensor], dtype: torch.dtype | None
) -> None:
    """Put the file's tensors into the model, whose own are never touched and so never resident."""
    state: dict[str, Tensor] = {}
    current: dict[str, Any] = model.state_dict()
    for name, place in current.items():
        source = file_name(family, name)
        # A checkpoint saved by transformers 5 itself has its names, not the hub's.
        tensor = tensors.get(source, tensors.get(name))
        if tensor is None and name == "lm_head.weight" and is_tied(model):
            continue
        if tensor is None:
            raise CheckpointError(f"The checkpoint lacks the tensor {source!r}.")
        if tensor.shape != place.shape:
            raise CheckpointError(
                f"Tensor {source!r} has shape {tuple(tensor.shape)}, not {tuple(place.shape)}."
            )
        state[name] = tensor if dtype is None else tensor.to(dtype)
    model.load_state_dict(state, assign=True, strict=False)
    if is_tied(model):
        tie: Any = model.tie_weights
        tie()


def is_tied(model: nn.Module) -> bool:
    """Whether the language model's head is its embedding."""
    config: Any = model.config
    text = config.get_text_config()
    return bool(getattr(config, "tie_word_embeddings", False) or text.tie_word_embeddings)
