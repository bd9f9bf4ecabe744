"""The page of the HTTP interface, from the gateway's OpenAPI document."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from deploy.reference.schema import Row, Schema, has_name, kind, one_line, resolved, rows, values_of

_METHODS = ("get", "put", "post", "delete")
_ELSEWHERE = {"Recipe": "recipe-keys.md"}
"""Objects that another page tells."""


def operations(document: Schema, scope_of: Callable[[str], str | None]) -> str:
    """Every operation: who may, what it takes, what it answers. By tag, in the document's order."""
    by_tag: dict[str, list[str]] = {}
    objects: dict[str, Schema] = {}
    definitions = document.get("components", {}).get("schemas", {})
    for path, item in document["paths"].items():
        for method in (m for m in _METHODS if m in item):
            operation = item[method]
            tag = operation.get("tags", ["service"])[0]
            lines = _operation(f"{method.upper()} {path}", operation, scope_of(path), definitions)
            for answer in _answers(operation["responses"], definitions).values():
                objects |= _named_in(answer, definitions)
            for content in operation.get("requestBody", {}).get("content", {}).values():
                body = resolved(content["schema"], definitions)
                for value in body.get("properties", {}).values():
                    objects |= _named_in(value, definitions)
            by_tag.setdefault(tag, []).append("\n".join(lines))
    sections = [f"## {tag.capitalize()}\n\n" + "\n".join(all_) for tag, all_ in by_tag.items()]
    told = [
        f"### {name}\n\n{one_line(schema.get('description', ''))}\n\n"
        + "\n".join(_fields("", schema, definitions, depth=1))
        for name, schema in sorted(objects.items())
    ]
    page = "\n".join([*sections, "## Objects\n", *told])
    for name, where in _ELSEWHERE.items():
        page = page.replace(f"[{name}](#{name.lower()})", f"[{name}]({where})")
    return page


def _operation(
    title: str, operation: Schema, scope: str | None, definitions: Schema
) -> Iterator[str]:
    said = operation.get("description") or operation.get("summary", "")
    yield f"### {title}\n"
    yield f"{one_line(said)} {f'Scope: `{scope}`.' if scope else 'Needs no key.'}\n"
    yield from _parameters(operation.get("parameters", ()), definitions)
    for media, content in operation.get("requestBody", {}).get("content", {}).items():
        schema = resolved(content["schema"], definitions)
        yield from _fields(f"Body, `{media}`:", schema, {**definitions, **schema.get("$defs", {})})
        for example in [*content.get("examples", ()), *schema.get("examples", ())][:1]:
            yield f"Such as `{json.dumps(example)}`.\n"
    yield from _answer(operation["responses"], definitions)


def _parameters(parameters: Any, definitions: Schema) -> Iterator[str]:
    found = list(parameters)
    if found:
        yield "| parameter | in | | default | |\n|---|---|---|---|---|"
        for each in found:
            default = each["schema"].get("default", "")
            meaning = one_line(each.get("description", each["schema"].get("description", "")))
            shown = f"`{json.dumps(default)}`" if default not in ("", None) else ""
            if each.get("required") and each["in"] != "path":
                shown = "required"
            yield (
                f"| `{each['name']}` | {each['in']} | {kind(each['schema'], definitions)} "
                f"| {shown} | {meaning} |"
            )
        yield ""


def _answer(responses: Mapping[str, Any], definitions: Schema) -> Iterator[str]:
    found = _answers(responses, definitions)
    for name in found:
        yield f"Answer: [{name}](#{name.lower()}).\n"
    if any("text/event-stream" in r.get("content", {}) for r in responses.values()):
        yield "Answer: server-sent events.\n"
    elif not found:
        said = next(r.get("description", "") for s, r in responses.items() if s.startswith("2"))
        yield f"Answer: {said}\n"


def _named_in(schema: Schema, definitions: Schema) -> dict[str, Schema]:
    """An object and all that it holds, however deep, by name; those of other pages left out.

    Each as it is defined: where it is used, it has the sentence of the key that holds it.
    """
    found = resolved(schema, definitions)
    if found.get("title") in _ELSEWHERE:
        return {}
    inner = [*found.get("properties", {}).values(), *found.get("anyOf", ())]
    inner += [each for each in (found.get("items"), values_of(found)) if each]
    named = {}
    if has_name(found):
        named[found["title"]] = definitions.get(found["title"], found)
    for each in inner:
        named |= _named_in(each, definitions)
    return named


def _answers(responses: Mapping[str, Any], definitions: Schema) -> dict[str, Schema]:
    """The objects that an operation answers with, by name."""
    found = {}
    for status in (s for s in responses if s.startswith("2")):
        content = responses[status].get("content", {})
        schema = resolved(content.get("application/json", {}).get("schema", {}), definitions)
        if schema.get("properties"):
            found[schema["title"]] = schema
    return found


def _fields(title: str, schema: Schema, definitions: Schema, *, depth: int = 2) -> Iterator[str]:
    found = list(rows(schema, definitions, depth=depth, named=True))
    if found:
        heading = f"{title}\n\n" if title else ""
        yield f"{heading}| key | | default | |\n|---|---|---|---|"
        yield from (_row(row) for row in found)
        yield ""


def _row(row: Row) -> str:
    default = "required" if row.required else row.default
    return f"| `{row.name}` | {row.kind} | {default} | {row.meaning} |"
