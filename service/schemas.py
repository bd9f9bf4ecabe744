"""Bodies of the job endpoints."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from service.errors import InvalidRequestError
from service.jobs.records import JobRecord, Priority


class CompressRequest(BaseModel):
    """Body of `POST /compress`."""

    model_config = ConfigDict(
        extra="forbid",
        use_attribute_docstrings=True,
        json_schema_extra={"examples": [{"model": "shapes-llava", "recipe": {"flops": 0.5}}]},
    )

    model: str
    """Name of a served original."""
    recipe: dict[str, Any]
    """Such as `{"flops": 0.5}`; docs/recipe-keys.md lists all keys."""
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")] | None = None
    """Name of the compressed model; by default made of the model's and the budget."""
    priority: Priority = "normal"
    """Jobs of a higher one go first."""


class JobLog(BaseModel):
    """Answer of `GET /compress/{id}/logs`."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    lines: list[str]
    """The last ones, oldest first."""


class JobList(BaseModel):
    """Answer of `GET /compress`."""

    object: Literal["list"] = "list"
    data: list[JobRecord]


def parse_compress_request(content: object) -> CompressRequest:
    """Check the body of `POST /compress`.

    Raises:
        InvalidRequestError: one sentence, naming the key.
    """
    try:
        return CompressRequest.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        known = ", ".join(CompressRequest.model_fields)
        if first["type"] == "extra_forbidden":
            message = f"Unknown key {key!r}; known: {known}."
        elif first["type"] == "missing":
            message = f"The key {key!r} is missing; the body needs model and recipe."
        elif key == "priority":
            message = "The priority is high, normal or low."
        elif key == "name":
            message = "A name has letters, digits, '.', '_' and '-', at most 64 in all."
        else:
            message = f"{key or 'The body'}: {first['msg'].lower()}."
        raise InvalidRequestError(message, param=key or None) from error
