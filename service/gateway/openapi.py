"""What `/openapi.json` says beyond FastAPI's routes: the hot endpoints, in front of it, and keys."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from service.gateway.auth import required_scope
from service.gateway.images import FORMATS

_JSON = "application/json"
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
    "stream": {
        "type": "boolean",
        "description": "Whether the answer comes as server-sent events, piece by piece.",
    },
    "n": {"type": "integer", "description": "How many answers; one by default."},
    "max_tokens": {"type": "integer", "description": "The most tokens of an answer."},
    "temperature": {
        "type": "number",
        "description": "0 is greedy: shadows and canaries compare only such answers.",
    },
    "user": {"type": "string", "description": "An alias keeps to one variant for a user."},
}
_CHAT = {
    "type": "object",
    "required": ["model", "messages"],
    "properties": {
        "model": _MODEL,
        "messages": {
            "type": "array",
            "items": _MESSAGE,
            "description": "The conversation: each has a `role` and a `content`, which is a text or a "
            "list of parts, `text` or `image_url` (a data URL, or an http(s) URL).",
        },
        **_SAMPLING,
        "logprobs": {
            "type": "boolean",
            "description": "Whether the tokens' log probabilities come along.",
        },
    },
    "examples": [
        {
            "model": "shapes-llava",
            "messages": [{"role": "user", "content": "What is a circle?"}],
            "max_tokens": 16,
            "temperature": 0,
        }
    ],
}
_COMPLETION = {
    "type": "object",
    "required": ["model", "prompt"],
    "properties": {
        "model": _MODEL,
        "prompt": {
            "description": "The text that is gone on with, or a list of texts or token ids."
        },
        **_SAMPLING,
        "logprobs": {
            "type": "integer",
            "description": "How many of the likeliest tokens come with their log probabilities.",
        },
    },
    "examples": [{"model": "shapes-llava", "prompt": "A circle is", "max_tokens": 16}],
}
_FORM = {
    "type": "object",
    "required": ["image", "question", "model"],
    "properties": {
        "image": {
            "type": "string",
            "format": "binary",
            "description": f"The picture's file: {', '.join(FORMATS)}.",
        },
        "question": {"type": "string", "description": "What to ask, at most 4096 bytes."},
        "model": _MODEL,
    },
}
_ANSWERED = {
    "title": "VqaAnswer",
    "type": "object",
    "required": ["answer", "model", "usage"],
    "properties": {
        "answer": {"type": "string", "description": "A word or a short phrase."},
        "model": {"type": "string", "description": "The model that answered."},
        "usage": {"type": "object", "description": "The tokens, as OpenAI counts them."},
    },
}
_COMPLETED = (
    "OpenAI's completion object as the engine made it; with `stream` its pieces, as events."
)
_ERRORS = {"400": "The request is wrong.", "404": "No such model.", "429": "Too much.",
           "503": "Try again."}  # fmt: skip


def _operation(
    summary: str, body: dict[str, Any], answer: str, content: dict[str, Any] | None = None
) -> dict[str, Any]:
    """A hot endpoint; `content` is by media type, as OpenAPI has it."""
    answered: dict[str, Any] = {"description": answer}
    if content is not None:
        answered["content"] = content
    errors = {status: {"description": text} for status, text in _ERRORS.items()}
    return {
        "post": {
            "tags": ["inference"],
            "summary": summary,
            "requestBody": {"required": True, "content": body},
            "responses": {"200": answered, **errors},
        }
    }


def _hot() -> dict[str, Any]:
    chat, completion = {_JSON: {"schema": _CHAT}}, {_JSON: {"schema": _COMPLETION}}
    form = {"multipart/form-data": {"schema": _FORM}}
    return {
        "/v1/chat/completions": _operation("Chat, with pictures.", chat, _COMPLETED),
        "/v1/completions": _operation("Go on with a text.", completion, _COMPLETED),
        "/v1/vqa": _operation(
            "Ask about a picture, by a form.",
            form,
            "The short answer.",
            {_JSON: {"schema": _ANSWERED}},
        ),
    }


def _ask_for_keys(document: dict[str, Any]) -> None:
    """Say which operations need a key: `/docs` then lets one be entered."""
    schemes = document.setdefault("components", {}).setdefault("securitySchemes", {})
    schemes["key"] = {"type": "http", "scheme": "bearer", "description": "An API key."}
    for path, item in document["paths"].items():
        for operation in item.values():
            operation["security"] = [{"key": []}] if required_scope(path) else []


def install(app: FastAPI) -> None:
    """Add them to what `/openapi.json` says."""

    def document() -> dict[str, Any]:
        if app.openapi_schema is None:
            found = get_openapi(
                title=app.title, version=app.version, description=app.description, routes=app.routes
            )
            found["paths"] |= _hot()
            _ask_for_keys(found)
            app.openapi_schema = found
        return app.openapi_schema

    app.openapi = document  # type: ignore[method-assign]  # FastAPI's documented way
