"""Put a report into a checkpoint, and read it back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from compressor.checkpoint import read_config, write_json
from compressor.errors import CheckpointError
from compressor.report.card import model_card
from compressor.report.data import Evidence

FOLDER, PAGE, DATA = "report", "index.html", "data.json"


def write_report(directory: Path, evidence: Evidence) -> None:
    """Write `report.json`, the model card, and `report/` with the page and its data."""
    from compressor.report.page import page  # drawing takes a second to import

    write_json(directory / "report.json", evidence.report.to_json())
    (directory / "README.md").write_text(model_card(evidence))
    folder = directory / FOLDER
    folder.mkdir()
    (folder / PAGE).write_text(page(evidence))
    content = json.dumps(evidence.to_json(), sort_keys=True, separators=(",", ":"))
    (folder / DATA).write_text(content + "\n")


def page_of(directory: Path) -> Path:
    """The page of a compressed model.

    Raises:
        CheckpointError: the directory is no model, or has no report.
    """
    return _part(directory, PAGE)


def data_of(directory: Path) -> dict[str, Any]:
    """A compressed model's report as data.

    Raises:
        CheckpointError: the directory is no model, or has no report that can be read.
    """
    path = _part(directory, DATA)
    try:
        content: dict[str, Any] = json.loads(path.read_text())
    except ValueError as error:
        raise CheckpointError(
            f"{str(path)!r} is not valid JSON; export the model again."
        ) from error
    return content


def _part(directory: Path, name: str) -> Path:
    read_config(directory)
    path = directory / FOLDER / name
    if not path.is_file():
        raise CheckpointError(
            f"{str(directory)!r} has no {FOLDER}/{name}; only models that infoprune compressed have it."
        )
    return path
