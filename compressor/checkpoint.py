"""The checkpoint format: what a compressed model directory holds, and how it is written and verified.

A directory is a model only if it has a valid manifest, which is written last: everything goes to a
temporary directory beside the target, is flushed to disk, and is renamed as a whole. This module
needs neither torch nor transformers, so that the vLLM plugin can read the format alone.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from compressor.errors import CheckpointError
from compressor.leftovers import aside, temporary_directory

MANIFEST = "manifest.json"
WEIGHTS = "model.safetensors"
FORMAT_VERSION = 2  # 2: matrices that share an input factor
ARCHITECTURE_PREFIX = "InfoPrune"
PICKLED_SUFFIXES = (".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt")
_CHUNK_BYTES = 1 << 20
_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")

Tower = Literal["vision", "projector", "language"]
Layout = Literal["adaptive", "uniform"]
QKV, GATE_UP = "qkv_proj", "gate_up_proj"
"""The names of q, k and v, and of gate and up, as one matrix: their rows below each other."""
JOINED = {"q_proj": QKV, "k_proj": QKV, "v_proj": QKV, "gate_proj": GATE_UP, "up_proj": GATE_UP}


class LayerShape(BaseModel):
    """The recorded shape of one transformer layer."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    heads: tuple[int, ...]
    """Query heads kept, by their index in the original, ascending."""
    kv_heads: tuple[int, ...]
    """Key/value heads kept; equal to `heads` without grouped-query attention."""
    ranks: dict[str, int | None]
    """Rank of each FFN matrix by its module name (`fc1`, `down_proj`, ...); None = dense.

    `gate_up_proj` are gate and up as one matrix: two output factors that share one input factor.
    """
    ffn_width: int | None = None
    """Inner width of the FFN where neurons were cut; None = the original's."""
    attention_ranks: dict[str, int] = {}
    """Rank of the attention's matrices that are factored, by module name (`q_proj`, ...).

    `qkv_proj` are q, k and v as one matrix: three output factors that share one input factor.
    """


class Compression(BaseModel):
    """The `compression` section of `config.json`."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    format_version: int = FORMAT_VERSION
    """A newer one is refused."""
    layout: Layout = "adaptive"
    plan_sha256: str
    """Of `plan.json`'s decisions."""
    original_architectures: tuple[str, ...]
    """The original's `architectures`."""
    towers: dict[Tower, tuple[LayerShape, ...]]
    """Every layer of each tower, from the first to the last that the model uses; the projector is one.

    Empty in the uniform layout, whose config says everything itself.
    """

    @classmethod
    def of_config(cls, config: Mapping[str, Any]) -> Compression | None:
        """The section of a parsed `config.json`; None where the model was not compressed.

        Raises:
            CheckpointError: the section is malformed or of a newer format.
        """
        section = config.get("compression")
        if section is None:
            return None
        try:
            found = cls.model_validate(section)
        except ValidationError as error:
            where = ".".join(str(part) for part in error.errors()[0]["loc"])
            raise CheckpointError(
                f"config.json's compression section is malformed at {where!r}; export the model again."
            ) from error
        if found.format_version > FORMAT_VERSION:
            raise CheckpointError(
                f"The checkpoint has format {found.format_version}, newer than {FORMAT_VERSION}; "
                "update infoprune."
            )
        return found


def factor_names(linear: str) -> tuple[str, str]:
    """The file's names of a factored linear's two modules: input factor, then output factor.

    `x -> out_factor(in_factor(x))`: the input factor is (rank, in) without a bias, the output factor
    (out, rank) with the linear's bias where it had one. A name of a hub linear must not occur in
    them, because vLLM renames weights by substring (`.gate_proj` -> `.gate_up_proj`).
    """
    stem = linear.removesuffix("_proj")
    return f"{stem}_in_factor", f"{stem}_out_factor"


def read_config(directory: Path) -> dict[str, Any]:
    """The parsed `config.json` of a model directory.

    Raises:
        CheckpointError: there is no directory, no config, or it is not JSON.
    """
    if not directory.is_dir():
        hub = f"; is it the hub's? `hf download {directory} --local-dir {directory.name}`"
        named = bool(_HUB_NAME.fullmatch(str(directory))) and not directory.parent.exists()
        raise CheckpointError(
            f"There is no model directory {str(directory)!r}{hub if named else ''}."
        )
    path = directory / "config.json"
    if not path.is_file():
        raise CheckpointError(f"{str(directory)!r} has no config.json, so it is not a model.")
    try:
        config = json.loads(path.read_text())
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{str(path)!r} is not valid JSON.") from error
    if not isinstance(config, dict):
        raise CheckpointError(f"{str(path)!r} is not a JSON object.")
    return config


def verify(directory: Path) -> None:
    """Check that a directory is a whole model: safetensors, and every file as its manifest says.

    A model that this project did not write has no manifest; its safetensors headers are checked.

    Raises:
        CheckpointError: anything is missing, truncated, altered or pickled.
    """
    config = read_config(directory)
    weights = sorted(directory.glob("*.safetensors"))
    if not weights:
        pickled = [p.name for p in sorted(directory.iterdir()) if p.suffix in PICKLED_SUFFIXES]
        if pickled:
            raise CheckpointError(
                f"{str(directory)!r} has pickled weights ({pickled[0]}), which can run code when "
                "loaded; convert them to safetensors first."
            )
        raise CheckpointError(f"{str(directory)!r} has no safetensors weights.")
    if (directory / MANIFEST).is_file():
        _verify_manifest(directory)
    elif "compression" in config:
        raise CheckpointError(f"{str(directory)!r} has no {MANIFEST}: its export was cut short.")
    for path in weights:
        _verify_safetensors(path)


def _verify_manifest(directory: Path) -> None:
    try:
        files = json.loads((directory / MANIFEST).read_text())["files"]
        expected = {str(name): str(entry["sha256"]) for name, entry in files.items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{MANIFEST} in {str(directory)!r} is malformed.") from error
    for path in directory.glob("*.safetensors"):
        if path.name not in expected:  # it would be loaded
            raise CheckpointError(f"{path.name} in {str(directory)!r} is not in its manifest.")
    for name, digest in expected.items():
        path = directory / name
        if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
            raise CheckpointError(
                f"{MANIFEST} in {str(directory)!r} names a file outside: {name!r}."
            )
        if not path.is_file():
            raise CheckpointError(f"{name} is missing from {str(directory)!r}; export it again.")
        if sha256_of(path) != digest:
            raise CheckpointError(
                f"{name} in {str(directory)!r} differs from its manifest (truncated or altered); "
                "export it again."
            )


def _verify_safetensors(path: Path) -> None:
    """Check a safetensors file's header against its length."""
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if size < 8 or length > size - 8:
            raise CheckpointError(f"{str(path)!r} is truncated; copy or export it again.")
        try:
            header = json.loads(file.read(length))
        except ValueError as error:
            raise CheckpointError(f"{str(path)!r} is not a safetensors file.") from error
    ends = [v["data_offsets"][1] for k, v in header.items() if k != "__metadata__"]
    if 8 + length + max(ends, default=0) != size:
        raise CheckpointError(f"{str(path)!r} is truncated; copy or export it again.")


def sha256_of(path: Path) -> str:
    """The hexadecimal sha256 of a file's content."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


@contextmanager
def writing(target: Path) -> Iterator[Path]:
    """A temporary directory that becomes `target` when the block ends without an error.

    The manifest is written last, everything is flushed, then the directory is renamed. On an error
    nothing of it is left. An existing model at `target` is replaced.

    Raises:
        CheckpointError: `target` exists and is not a model directory of this project.
    """
    if target.exists() and not (target / MANIFEST).is_file():
        raise CheckpointError(
            f"{str(target)!r} exists and is not a model written by infoprune; choose another place."
        )
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_directory(target)
    temporary.mkdir()
    try:
        yield temporary
        _write_manifest(temporary)
        _replace(temporary, target)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def _write_manifest(directory: Path) -> None:
    manifest = directory / MANIFEST
    everything = sorted(directory.rglob("*"))
    files = [p for p in everything if p.is_file() and p != manifest]
    entries = {
        path.relative_to(directory).as_posix(): {
            "sha256": sha256_of(path),
            "bytes": path.stat().st_size,
        }
        for path in files
    }
    for path in files:
        path.chmod(0o644)  # safetensors writes 0600, which a serving user could not read
        _flush(path)
    write_json(manifest, {"format_version": FORMAT_VERSION, "files": entries})
    _flush(manifest)
    for path in (*(p for p in everything if p.is_dir()), directory):
        _flush(path)


def _replace(temporary: Path, target: Path) -> None:
    """Rename `temporary` to `target`; a model that was there is moved aside first, then removed."""
    before: Path | None = None
    if target.exists():
        before = target.rename(aside(target))
    temporary.rename(target)
    _flush(target.parent)
    if before is not None:
        (before / MANIFEST).unlink(missing_ok=True)  # half of it is not to be taken for a model
        shutil.rmtree(before, ignore_errors=True)


def _flush(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_json(path: Path, content: object) -> None:
    """Write indented JSON with sorted keys, so that equal content gives equal bytes."""
    path.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n")
