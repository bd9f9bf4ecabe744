"""JSON Schema, as pydantic and FastAPI write it, told as rows of a Markdown table. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

Schema = Mapping[str, Any]
_LIMITS = (
    ("minimum", ">="),
    ("exclusiveMinimum", ">"),
    ("maximum", "<="),
    ("exclusiveMaximum", "<"),
)
_PLAIN = {"integer": "integer", "number": "number", "string": "text", "boolean": "true or false"}


@dataclass(frozen=True)
class Row:
    """One key of an object."""

    name: str
    """With the names of the objects that it is in: `calibration.samples`."""
    kind: str
    """Its type and bounds, in words."""
    default: str
    """As JSON; empty where there is none, or it depends on the machine."""
    required: bool
    meaning: str


def rows(
    schema: Schema, definitions: Schema, prefix: str = "", depth: int = 2, *, named: bool = False
) -> Iterator[Row]:
    """The keys of an object, those of objects inside it after its own name.

    Args:
        schema: of the object.
        definitions: what its `$ref`s name, by the reference's last part.
        prefix: goes before every name.
        depth: how many objects deep; deeper ones are told as "object".
        named: whether those are told by their name, as a link to the section that tells them.
    """
    required = set(schema.get("required", ()))
    for name, given in schema.get("properties", {}).items():
        value = resolved(given, definitions)
        if depth > 1 and value.get("properties"):
            yield from rows(value, definitions, f"{prefix}{name}.", depth - 1, named=named)
            continue
        yield Row(
            name=prefix + name,
            kind=kind(value, definitions, named=named),
            default=_default(given),
            required=name in required,
            meaning=one_line(given.get("description", "")),
        )


def resolved(schema: Schema, definitions: Schema) -> Schema:
    """The schema that a reference names; a choice between one thing and null is that thing."""
    options = [o for o in schema.get("anyOf", ()) if o.get("type") != "null"]
    if len(options) == 1:
        return resolved({**options[0], **_without(schema, "anyOf")}, definitions)
    if len(schema.get("allOf", ())) == 1:
        return resolved({**schema["allOf"][0], **_without(schema, "allOf")}, definitions)
    if "$ref" in schema:
        named = definitions[schema["$ref"].rsplit("/", 1)[-1]]
        return {**resolved(named, definitions), **_without(schema, "$ref")}
    return schema


def kind(schema: Schema, definitions: Schema, *, named: bool = False) -> str:
    """A type with its bounds, in words; `named` as for `rows`."""
    found = resolved(schema, definitions)
    if "const" in found:
        return f"`{found['const']}`"
    if "enum" in found:
        return " or ".join(f"`{value}`" for value in found["enum"])
    if "anyOf" in found:
        told = (kind(o, definitions, named=named) for o in found["anyOf"])
        return " or ".join(dict.fromkeys(told))
    if found.get("type") == "array":
        inner = found.get("items")
        return f"list of {kind(inner, definitions, named=named)}" if inner else "list"
    if named and has_name(found):
        return f"[{found['title']}](#{found['title'].lower()})"
    if named and has_name(held := resolved(values_of(found), definitions)):
        return f"object of {kind(held, definitions, named=True)}"
    if found.get("format") == "binary":
        return "file"
    plain = _PLAIN.get(found.get("type", ""), "object" if _is_object(found) else "any")
    limits = " and ".join(f"{sign} {found[key]:g}" for key, sign in _LIMITS if key in found)
    return f"{plain}, {limits}" if limits else plain


def has_name(schema: Schema) -> bool:
    """Whether it is an object with keys of its own, and has a name."""
    return bool(schema.get("properties") and schema.get("title"))


def values_of(schema: Schema) -> Schema:
    """What an object whose keys are not fixed holds; empty where that is not said."""
    found = schema.get("additionalProperties")
    return found if isinstance(found, dict) else {}


def one_line(text: str) -> str:
    """Whitespace folded, and nothing that ends a table's cell."""
    return " ".join(text.split()).replace("|", "\\|")


def _is_object(schema: Schema) -> bool:
    return schema.get("type") == "object" or "properties" in schema


def _without(schema: Schema, key: str) -> dict[str, Any]:
    return {name: value for name, value in schema.items() if name != key}


def _default(schema: Schema) -> str:
    if schema.get("default") is None:
        return ""
    value = schema["default"]
    return f"`{value if isinstance(value, str) else json.dumps(value)}`"
