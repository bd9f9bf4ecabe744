"""Stage checkpoints: what a compression has finished, so that the same command goes on from there.

Every file appears by a rename, so a file that exists is whole. The directory stands beside the target
and is removed when the target is there. It belongs to one source, recipe, plan, data and version: their
fingerprint is written first, and a directory with another one is started afresh.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Mapping
from itertools import takewhile
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import Tensor

from compressor.leftovers import work_directory

_FINGERPRINT = "fingerprint.json"


def belongs(directory: Path, fingerprint: Mapping[str, Any]) -> bool:
    """Whether the pieces in a directory are of the compression with that fingerprint."""
    known = directory / _FINGERPRINT
    return known.is_file() and known.read_text() == _told(fingerprint)


def _told(fingerprint: Mapping[str, Any]) -> str:
    return json.dumps(fingerprint, sort_keys=True, indent=2)


class Work:
    """A directory of finished pieces."""

    def __init__(self, directory: Path, fingerprint: Mapping[str, Any]) -> None:
        self.directory = directory
        if directory.exists() and not belongs(directory, fingerprint):
            shutil.rmtree(directory)
        self._made = [p for p in directory.parents if not p.exists()]  # the deepest first
        directory.mkdir(parents=True, exist_ok=True)
        if not (directory / _FINGERPRINT).is_file():
            write_text(directory / _FINGERPRINT, _told(fingerprint))

    @classmethod
    def beside(cls, target: Path, fingerprint: Mapping[str, Any]) -> Work:
        """The directory for a compression whose result goes to `target`."""
        return cls(work_directory(target), fingerprint)

    def sub(self, name: str) -> Work:
        """A part of the directory with names of its own."""
        made = object.__new__(Work)
        made.directory = self.directory / name
        made._made = []
        return made

    def path(self, name: str) -> Path:
        """A place in the directory, whose parent exists."""
        path = self.directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def has(self, name: str) -> bool:
        """Whether a piece is finished."""
        return (self.directory / name).exists()

    def finished(self, names: Iterable[str]) -> int:
        """How many pieces are finished before the first that is not."""
        return sum(1 for _ in takewhile(self.has, names))

    def save_tensors(self, name: str, tensors: Mapping[str, Tensor]) -> None:
        """Write a piece of tensors."""
        path = self.path(name)
        temporary = path.with_name(path.name + ".tmp")
        save_file({k: v.contiguous() for k, v in tensors.items()}, temporary)
        temporary.replace(path)

    def load_tensors(self, name: str) -> dict[str, Tensor]:
        """Read a piece of tensors, into memory aligned as if it had just been computed.

        A product of matrices may round differently from another alignment, and a resumed run must end
        in the same bits.
        """
        return {k: v.clone() for k, v in load_file(self.directory / name).items()}

    def map_tensors(self, name: str) -> dict[str, Tensor]:
        """A piece of tensors as it is in the file, of which only what is touched is read."""
        return load_file(self.directory / name)

    def save_json(self, name: str, content: object) -> None:
        """Write a piece of JSON."""
        write_text(self.path(name), json.dumps(content, sort_keys=True))

    def load_json(self, name: str) -> Any:
        """Read a piece of JSON."""
        return json.loads((self.directory / name).read_text())

    def remove(self) -> None:
        """Everything is done, or failed; parents made for this go too where they are empty."""
        shutil.rmtree(self.directory, ignore_errors=True)
        with contextlib.suppress(OSError):
            for parent in self._made:
                parent.rmdir()


def digest(content: object) -> str:
    """The sha256 of plain data, in hexadecimal."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def write_text(path: Path, content: str) -> None:
    """Write a file by a rename, so that one that exists is whole."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    with temporary.open("w") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
