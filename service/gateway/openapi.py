"""The hot endpoints in the OpenAPI document: FastAPI does not see them, as they are in front of it."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

_MODEL = {"type": "string", "description": "Name of a model or an alias."}
_PART = {
    "type": "object",
    "properties": {
        "type": {"type": "string", "enum": ["text", "image_url"]},
        "text": {"type": "string"},
        "image_url": {
            "type": "object",
            "properties": {
                "url": {"type": "string", "description": "A data URL, or an http(s) URL."}
            },
        },
    },
}
_MESSAGE = {
    "type": "object",
    "required": ["role", "content"],
    "properties": {
        "role": {"type": "string", "enum": ["system", "user", "assistant", "tool"]},
        "content": {"anyOf": [{"type": "string"}, {"type": "array", "items": _PART}]},
    },
}
_SAMPLING = {
    "stream": {"type": "boolean"},
    "n": {"type": "integer"},
    "max_tokens": {"type": "integer"},
    "temperature": {"type": "number"},
    "logprobs": {},
    "user": {"type": "string", "description": "An alias keeps to one variant for a user."},
}
_CHAT = {
    "type": "object",
    "required": ["model", "messages"],
    "properties": {
        "model": _MODEL,
        "messages": {"type": "array", "items": _MESSAGE},
        **_SAMPLING,
    },
}
_COMPLETION = {
    "type": "object",
    "required": ["model", "prompt"],
    "properties": {"model": _MODEL, "prompt": {}, **_SAMPLING},
}
_FORM = {
    "type": "object",
    "required": ["image", "question", "model"],
    "properties": {
        "image": {"type": "string", "format": "binary"},
        "question": {"type": "string"},
        "model": _MODEL,
    },
}


def _operation(summary: str, media_type: str, schema: dict[str, Any]) -> dict[str, Any]:
    errors = {"400": "The request is wrong.", "404": "No such model.", "429": "Too much.",
              "503": "Try again."}  # fmt: skip
    return {
        "post": {
            "tags": ["inference"],
            "summary": summary,
            "requestBody": {"required": True, "content": {media_type: {"schema": schema}}},
            "responses": {
                "200": {"description": "The answer."},
                **{status: {"description": text} for status, text in errors.items()},
            },
        }
    }


def install(app: FastAPI) -> None:
    """Add them to what `/openapi.json` says."""

    def document() -> dict[str, Any]:
        if app.openapi_schema is None:
            found = get_openapi(
                title=app.title, version=app.version, description=app.description, routes=app.routes
            )
            json = "application/json"
            found["paths"] |= {
                "/v1/chat/completions": _operation("Chat", json, _CHAT),
                "/v1/completions": _operation("Complete a text", json, _COMPLETION),
                "/v1/vqa": _operation("Ask about a picture", "multipart/form-data", _FORM),
            }
            app.openapi_schema = found
        return app.openapi_schema

    app.openapi = document  # type: ignore[method-assign]  # FastAPI's documented way
