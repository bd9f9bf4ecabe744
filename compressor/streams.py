"""Run a model's blocks one at a time over calibration data, and look inside them.

A `Stream` is what flows between the blocks of one tower at one depth, batch by batch, in files. Only
the block at hand is copied into memory and to the compute device; the rest of the model stays in its
memory-mapped file.
"""

from __future__ import annotations

import copy
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from compressor.families import TowerSpec
from compressor.kept import KeptArguments

_BLOCK_ARGUMENTS = {
    "attention_mask", "position_embeddings", "position_ids", "cu_seqlens", "max_seqlen",
}  # fmt: skip


class _Stop(Exception):  # noqa: N818 - control flow, never seen outside
    """Ends a forward pass once everything that was asked for has been seen."""


class Stream:
    """What flows through a tower, at one depth: the input of block `depth`, for every batch."""

    def __init__(self, directory: Path, device: torch.device) -> None:
        self.directory = directory
        self.device = device
        self.depth = 0
        self.arguments = KeptArguments(directory / "arguments")
        """What else a block's forward is given."""
        self.examples: list[int] = []
        """[batch]: how many there are of."""
        self.weights: list[Tensor] = []
        """Each (rows,), summing to 1 over all batches."""

    def __len__(self) -> int:
        return len(self.arguments)

    def read(self, batch: int) -> Tensor:
        """The stream of one batch, on the compute device."""
        tensor = load_file(self._file(self.depth, batch))["hidden"]
        return tensor.to(self.device) if self.device.type != "cpu" else tensor.clone()

    def write(self, batch: int, hidden: Tensor, *, depth: int | None = None) -> None:
        """The stream of one batch behind the present block, or at a depth."""
        path = self._file(self.depth + 1 if depth is None else depth, batch)
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file({"hidden": hidden.cpu().contiguous()}, path)

    def advance(self) -> None:
        """Go behind the block, of which every batch has been written."""
        self.depth += 1
        shutil.rmtree(self.directory / str(self.depth - 1), ignore_errors=True)

    def other(self, batch: int) -> dict[str, Any]:
        """The present block's other arguments, on the compute device."""
        found = self.arguments.of(batch, self.depth)
        return {name: _to(value, self.device) for name, value in found.items()}

    def _file(self, depth: int, batch: int) -> Path:
        return self.directory / str(depth) / f"{batch}.safetensors"


class LazyModel:
    """A model whose blocks stay in the file until one is run."""

    def __init__(self, model: nn.Module, specs: Sequence[TowerSpec], device: torch.device) -> None:
        self.model = model
        self.specs = tuple(specs)
        self.device = device
        # What is in front of the towers (embeddings, norms) computes in float32; the blocks and the
        # head, which is not run here, stay as they are in the file. So do tables of embeddings, of
        # which only the rows that are looked up are turned into float32.
        kept = [*(f"{spec.layers}." for spec in specs), "lm_head."]
        for name, module in model.named_modules():
            if isinstance(module, nn.Embedding) and not name.startswith(tuple(kept)):
                kept.append(f"{name}.")
                module.register_forward_hook(_float32)
        for name, parameter in model.named_parameters():
            if not name.startswith(tuple(kept)):
                parameter.data = parameter.data.float()

    def block(self, spec: TowerSpec, index: int) -> nn.Module:
        """A copy of one block in float32 on the compute device."""
        return copy.deepcopy(spec.blocks(self.model)[index]).float().to(self.device)

    def spec(self, name: str) -> TowerSpec:
        """The tower of that name."""
        return next(spec for spec in self.specs if spec.name == name)

    @torch.inference_mode()
    def enter(
        self,
        spec: TowerSpec,
        batches: Sequence[Mapping[str, Tensor]],
        upstream: Sequence[tuple[TowerSpec, Stream]],
        stream: Stream,
        *,
        fresh: bool,
    ) -> None:
        """Fill a stream at a tower's first block: the model runs up to there, batch by batch.

        Args:
            spec: the tower.
            batches: the model's inputs.
            upstream: towers before it, with what left each; they are not run again.
            stream: gets the blocks' arguments, and with `fresh` the activations at depth 0.
            fresh: False where the stream's file at its depth is there from an earlier run.
        """
        for number, batch in enumerate(batches):
            with ExitStack() as stack:
                for tower, behind in upstream:
                    stack.enter_context(_replaying(self.model, tower, behind, number))
                seen: list[Tensor] = []
                arguments: list[dict[str, Any]] = []
                stack.enter_context(_recording(self.model, spec, seen, arguments))
                with suppress(_Stop):
                    self.model(**batch, use_cache=False)
            stream.arguments.append(arguments)
            stream.examples.append(len(batch["input_ids"]))
            if fresh:
                stream.write(number, seen[0], depth=0)
            rows = seen[0].numel() // (spec.reads or spec.width)
            stream.weights.append(torch.ones(rows))
        total = sum(len(w) for w in stream.weights)
        stream.weights = [w / total for w in stream.weights]


def _float32(module: nn.Module, args: tuple[Any, ...], output: Tensor) -> Tensor:
    """A forward hook: the output in float32."""
    del module, args
    return output.float()


@contextmanager
def _forwards(blocks: Sequence[nn.Module], make: Callable[[int], Any]) -> Iterator[None]:
    """Replace the forwards of blocks, which keep their class: transformers looks for it."""
    for index, block in enumerate(blocks):
        block.forward = make(index)
    try:
        yield
    finally:
        for block in blocks:
            del block.__dict__["forward"]


def _all_blocks(model: nn.Module, spec: TowerSpec) -> list[nn.Module]:
    place = model.get_submodule(spec.layers)
    return [place] if spec.attention is None else list(place.children())


@contextmanager
def _replaying(model: nn.Module, spec: TowerSpec, behind: Stream, batch: int) -> Iterator[None]:
    """Let a tower give what a stream holds, without running it."""

    def make(index: int) -> Any:
        last = index == spec.used_layers - 1
        return lambda hidden, *_, **__: behind.read(batch).cpu() if last else hidden

    with _forwards(_all_blocks(model, spec), make):
        yield


@contextmanager
def _recording(
    model: nn.Module, spec: TowerSpec, seen: list[Tensor], arguments: list[dict[str, Any]]
) -> Iterator[None]:
    """Note a tower's input and each block's arguments; the forward pass ends at the last block."""

    def make(index: int) -> Any:
        def record(hidden: Tensor, *args: Any, **kwargs: Any) -> Tensor:
            if index == 0:
                seen.append(hidden)
            given = {"attention_mask": args[0]} if args else {}
            given |= {k: v for k, v in kwargs.items() if k in _BLOCK_ARGUMENTS}
            arguments.append(given)
            if index == spec.used_layers - 1:
                raise _Stop
            return hidden

        return record

    with _forwards(_all_blocks(model, spec), make):
        yield


@torch.inference_mode()
def look(
    block: nn.Module, hidden: Tensor, arguments: dict[str, Any], *paths: str, stop: bool = False
) -> tuple[dict[str, Tensor], Tensor]:
    """Run one block; returns the inputs of the modules at `paths`, and the block's output.

    With `stop` the block ends at the last of `paths` before that module runs, so what follows may
    have a wrong shape; the output is then the block's input.
    """
    seen: dict[str, Tensor] = {}
    handles = []
    for path in paths:

        def catch(_: nn.Module, args: tuple[Tensor, ...], path: str = path) -> None:
            seen[path] = args[0]
            if stop and path == paths[-1]:
                raise _Stop

        handles.append(block.get_submodule(path).register_forward_pre_hook(catch))
    try:
        output = block(hidden, **arguments)
    except _Stop:
        output = hidden
    finally:
        for handle in handles:
            handle.remove()
    return seen, output[0] if isinstance(output, tuple) else output


def _to(value: Any, device: torch.device) -> Any:
    """A block's argument on a device: a tensor, or a tuple of them."""
    if isinstance(value, Tensor):
        return value.to(device)
    if isinstance(value, tuple):
        return tuple(_to(part, device) for part in value)
    return value
