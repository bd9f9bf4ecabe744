"""Tables that were measured, one JSON file each."""

from __future__ import annotations

from pathlib import Path

from pydantic import ValidationError

from compressor.latency.table import TABLE_VERSION, LatencyTable
from compressor.work import write_text


def read_table(path: Path) -> LatencyTable | None:
    """The table of a file; None where there is none that this version wrote whole."""
    try:
        table = LatencyTable.model_validate_json(path.read_text())
    except (OSError, UnicodeDecodeError, ValidationError):
        return None
    return table if table.version == TABLE_VERSION else None


def write_table(path: Path, table: LatencyTable) -> None:
    """Write a table by a rename, so that a file that exists is whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, table.model_dump_json(indent=1) + "\n")
