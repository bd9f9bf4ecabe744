"""`infoprune models register`: models that workers elsewhere serve, but jobs here shall compress."""

from __future__ import annotations

from typing import Annotated

import typer

from compressor.cli import errors_in_one_sentence
from service.command import connect_store, read_settings, service_errors
from service.registration import register
from service.registry import Registry


def register_models(
    models: Annotated[
        list[str],
        typer.Argument(
            help="Model directories, or hub models (owner/name) that INFOPRUNE_HUB_MODELS allows."
        ),
    ],
) -> None:
    """Register models by their names; once more does no harm.

    `infoprune serve` and `infoprune workers run` do it for the models that they are given. The paths
    must be the same wherever jobs and workers run.
    """
    from service.jobs.runner import original_entries

    with service_errors(), errors_in_one_sentence():
        settings = read_settings()
        entries = original_entries(models, settings)
        register(Registry(connect_store(settings)), entries)
        typer.echo(f"Registered {', '.join(entry.name for entry in entries)}.")
