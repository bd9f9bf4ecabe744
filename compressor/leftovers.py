"""Names of what is unfinished beside a target directory, and what becomes of it after a kill.

.NAME.work           a compression's pieces, from which it goes on
.NAME.HASH.tmp       what is being written, until it is renamed to NAME
.NAME.HASH.old       what was at NAME, while it is replaced
"""

from __future__ import annotations

import glob
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path


def work_directory(target: Path) -> Path:
    """Where a compression keeps its pieces while `target` is not there yet."""
    return target.parent / f".{target.name}.work"


def temporary_directory(target: Path) -> Path:
    """A fresh name for what will be `target`."""
    return _beside(target, "tmp")


def aside(target: Path) -> Path:
    """A fresh name for what is at `target` while it is replaced."""
    return _beside(target, "old")


def unfinished(place: Path) -> Iterator[tuple[Path, str]]:
    """Each work or temporary directory in `place`, and its target's name, which may have dots."""
    for path in place.glob(".*.work"):
        yield path, path.name[1:].removesuffix(".work")
    for path in place.glob(".*.????????.tmp"):
        yield path, path.name[1:].rsplit(".", 2)[0]


def restore(target: Path, marker: str) -> None:
    """Bring back a model that was moved aside by a writer who was killed before another took its place.

    Args:
        target: where it was; nothing happens where something is.
        marker: a file that it has while it is whole.
    """
    whole = [path for path in _left(target, "old") if (path / marker).is_file()]
    if whole and not target.exists():
        max(whole, key=lambda path: path.stat().st_mtime).rename(target)


def clear(target: Path) -> None:
    """Remove what killed writers of the target left."""
    for path in (*_left(target, "old"), *_left(target, "tmp")):
        shutil.rmtree(path, ignore_errors=True)


def _beside(target: Path, ending: str) -> Path:
    return target.parent / f".{target.name}.{uuid.uuid4().hex[:8]}.{ending}"


def _left(target: Path, ending: str) -> list[Path]:
    return list(target.parent.glob(f".{glob.escape(target.name)}.????????.{ending}"))
