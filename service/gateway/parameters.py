"""Parameters that several routes take, each with its sentence for the documentation."""

from __future__ import annotations

from typing import Annotated

from fastapi import Path, Query

ModelName = Annotated[str, Path(description="Name of a model.")]
ModelOrAlias = Annotated[str, Path(description="Name of a model or an alias.")]
AliasName = Annotated[str, Path(description="Name of an alias.")]
JobId = Annotated[str, Path(description="A job's `id`, as `POST /compress` gave it.")]
EvaluationId = Annotated[str, Path(description="An evaluation's `id`.")]
Why = Annotated[str, Query(description="For the history.")]
