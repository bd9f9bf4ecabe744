"""`infoprune models register`: models that workers elsewhere serve, but jobs here shall compress."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from compressor.cli import errors_in_one_sentence
from service.command import connect_store, read_settings, service_errors
from service.registration import register
from service.registry import Registry


def register_models(
    paths: Annotated[
        list[Path], typer.Argument(help="Model directories, each registered by its name.")
    ],
) -> None:
    """Register models by their directories; once more does no harm.

    `infoprune serve` and `infoprune workers run` do it for the models that they are given. The paths
    must be the same wherever jobs and workers run.
    """
    from service.jobs.runner import original_entry

    with service_errors(), errors_in_one_sentence():
        entries = [original_entry(path.resolve().name, path) for path in paths]
        register(Registry(connect_store(read_settings())), entries)
        typer.echo(f"Registered {', '.join(entry.name for entry in entries)}.")
