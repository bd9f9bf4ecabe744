"""Model directories to and from a store that several machines share: any that fsspec knows.

Two functions do it all: `put_directory` and `get_directory`. What came over is checked against the
checkpoint's own manifest, so that a torn transfer is never served.
"""

from __future__ import annotations

import shutil
import time
import uuid
from pathlib import Path

import fsspec
import structlog

from compressor.checkpoint import MANIFEST, verify
from compressor.errors import CheckpointError
from service.registry import ModelEntry
from service.settings import Settings

log = structlog.get_logger()
STALE_S = 24 * 3600.0


def put_directory(directory: Path, url: str) -> None:
    """Copy a checkpoint to a store; its manifest goes last, so that it is there whole or not at all.

    Args:
        directory: a checkpoint with a manifest.
        url: of the directory in the store, such as s3://bucket/models/small.

    Raises:
        CheckpointError: the directory is no whole checkpoint, or the store refuses it.
    """
    verify(directory)
    if not (directory / MANIFEST).is_file():
        raise CheckpointError(
            f"{str(directory)!r} has no {MANIFEST}; only whole exports are stored."
        )
    try:
        system, root = fsspec.core.url_to_fs(url)
        if system.exists(f"{root}/{MANIFEST}"):
            system.rm(f"{root}/{MANIFEST}")
        for path in _manifest_last(directory):
            target = f"{root}/{path.relative_to(directory).as_posix()}"
            system.makedirs(target.rpartition("/")[0], exist_ok=True)
            system.put_file(str(path), target)
    except Exception as error:  # each file system has errors of its own
        raise CheckpointError(f"{url!r} cannot be written ({_reason(error)}).") from error


def get_directory(url: str, directory: Path) -> None:
    """Copy a checkpoint from a store; it appears at `directory` once it is whole and verified.

    Raises:
        CheckpointError: it is not there, was torn on its way, or the store cannot be read.
    """
    # Not `.tmp`: those without a job are swept within seconds.
    temporary = directory.parent / f".{directory.name}.{uuid.uuid4().hex[:8]}.fetch"
    _remove_stale(directory)
    try:
        system, root = fsspec.core.url_to_fs(url)
        system.invalidate_cache()  # of listings from before it was put there
        if not system.exists(f"{root}/{MANIFEST}"):
            raise CheckpointError(f"There is no whole checkpoint at {url!r}.")
        for remote in system.find(root):
            target = temporary / remote[len(root) :].lstrip("/")
            target.parent.mkdir(parents=True, exist_ok=True)
            system.get_file(remote, str(target))
        verify(temporary)
        if not directory.exists():
            temporary.rename(directory)
    except CheckpointError:
        raise
    except Exception as error:  # each file system has errors of its own
        raise CheckpointError(f"{url!r} cannot be read ({_reason(error)}).") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def store_model(directory: Path, store: str) -> str:
    """Put a finished model into the store; returns where it is.

    Raises:
        CheckpointError: see `put_directory`.
    """
    location = f"{store.rstrip('/')}/{directory.name}"
    put_directory(directory, location)
    log.info("model stored", location=location)
    return location


def fetch_model(entry: ModelEntry, settings: Settings) -> Path:
    """A model's directory on this machine, fetched from the store where it is not here.

    Raises:
        CheckpointError: it is neither here nor in a store.
    """
    path = Path(entry.path)
    if path.is_dir() or entry.location is None:
        return path  # whoever reads it says what is wrong with it
    local = settings.models_dir.resolve() / entry.name
    if not local.is_dir():
        log.info("model fetched", model=entry.name, location=entry.location)
        get_directory(entry.location, local)
    return local


def _remove_stale(directory: Path) -> None:
    """Remove what transfers that were killed long ago left behind."""
    for path in directory.parent.glob(f".{directory.name}.*.fetch"):
        if time.time() - path.stat().st_mtime > STALE_S:
            shutil.rmtree(path, ignore_errors=True)


def _manifest_last(directory: Path) -> list[Path]:
    files = sorted(p for p in directory.rglob("*") if p.is_file() and p.name != MANIFEST)
    return [*files, directory / MANIFEST]


def _reason(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200].rstrip(".")
