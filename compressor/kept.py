"""Tensors that grow with the calibration data: in files, so that memory does not.

They are read when they are asked for, into memory of their own (`Work.load_tensors` says why).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, overload

from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from compressor.work import Work


class KeptBatches(Sequence[dict[str, Tensor]]):
    """Model inputs by batch, a file each."""

    def __init__(self, work: Work, batches: Iterable[Mapping[str, Tensor]]) -> None:
        """Write them as pieces, one at a time."""
        self._work, self._count = work, 0
        for batch in batches:
            work.save_tensors(_piece(self._count), batch)
            self._count += 1

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, index: int) -> dict[str, Tensor]: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[dict[str, Tensor]]: ...
    def __getitem__(self, index: int | slice) -> dict[str, Tensor] | Sequence[dict[str, Tensor]]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(self._count))]
        if not -self._count <= index < self._count:
            raise IndexError(index)
        return self._work.load_tensors(_piece(index % self._count))


def _piece(batch: int) -> str:
    return f"{batch}.safetensors"


@dataclass(frozen=True)
class _Kept:
    """Where a tensor was."""

    name: str


class KeptArguments:
    """What the blocks of a tower are given beside the stream: masks and rotary tables, by batch."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._forms: list[list[dict[str, Any]]] = []

    def __len__(self) -> int:
        return len(self._forms)

    def append(self, arguments: Sequence[Mapping[str, Any]]) -> None:
        """Keep the arguments of a batch's blocks; a tensor that several share is written once."""
        self._directory.mkdir(parents=True, exist_ok=True)
        tensors: dict[int, Tensor] = {}
        forms = [{k: _form(v, tensors) for k, v in given.items()} for given in arguments]
        path = self._directory / _piece(len(self._forms))
        # A copy each: safetensors refuses tensors that share memory, as views of one table do.
        save_file({str(k): v.clone().contiguous() for k, v in tensors.items()}, path)
        self._forms.append(forms)

    def of(self, batch: int, block: int) -> dict[str, Any]:
        """A block's arguments; the last block's stand for those behind it."""
        forms = self._forms[batch]
        with safe_open(self._directory / _piece(batch), framework="pt") as file:
            form = forms[min(block, len(forms) - 1)]
            return {name: _restored(value, file) for name, value in form.items()}


def _form(value: Any, tensors: dict[int, Tensor]) -> Any:
    """The value with names in place of its tensors, which are noted by identity."""
    if isinstance(value, Tensor):
        tensors[id(value)] = value
        return _Kept(str(id(value)))
    if isinstance(value, tuple):
        return tuple(_form(part, tensors) for part in value)
    return value


def _restored(form: Any, file: Any) -> Any:
    if isinstance(form, _Kept):
        return file.get_tensor(form.name).clone()
    if isinstance(form, tuple):
        return tuple(_restored(part, file) for part in form)
    return form
