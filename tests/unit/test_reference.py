"""JSON Schema told as rows, and commands told as tables."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import pytest
import typer
from fastapi import FastAPI
from pydantic import BaseModel, ConfigDict, Field

from deploy.reference.commands import command_line
from deploy.reference.figures import as_image
from deploy.reference.http_api import operations
from deploy.reference.pages import variable
from deploy.reference.schema import Row, rows
from service.gateway.app import create_app
from service.settings import Settings


class Inner(BaseModel):
    model_config = ConfigDict(use_attribute_docstrings=True)

    steps: Annotated[int, Field(ge=1, lt=9)] = 3
    """How | many,
    at most."""


class Outer(BaseModel):
    name: str
    share: Annotated[float, Field(gt=0, le=1)] | None = None
    kind: Literal["a", "b"] = "a"
    many: list[int] = [1, 2]
    inner: Inner = Inner()
    either: int | str = 1


def test_a_model_is_told_key_by_key_with_bounds_defaults_and_meaning() -> None:
    schema = Outer.model_json_schema()
    assert list(rows(schema, schema["$defs"])) == [
        Row("name", "text", "", required=True, meaning=""),
        Row("share", "number, > 0 and <= 1", "", required=False, meaning=""),
        Row("kind", "`a` or `b`", "`a`", required=False, meaning=""),
        Row("many", "list of integer", "`[1, 2]`", required=False, meaning=""),
        Row("inner.steps", "integer, >= 1 and < 9", "`3`", False, "How \\| many, at most."),
        Row("either", "integer or text", "`1`", required=False, meaning=""),
    ]
    shallow = list(rows(schema, schema["$defs"], depth=1))
    assert [row.kind for row in shallow if row.name == "inner"] == ["object"]


@pytest.fixture
def app() -> typer.Typer:
    app, group = typer.Typer(), typer.Typer(help="Things.")

    @app.command()
    def run(
        where: Annotated[str, typer.Argument(help="A place.")],
        often: Annotated[int, typer.Option(min=1, help="How often.")] = 2,
        loud: Annotated[bool, typer.Option("--loud", help="Say it.")] = False,
    ) -> None:
        """Run\n    on."""

    @group.command("list")
    def list_() -> None:
        """All."""

    app.add_typer(group, name="things")
    return app


def test_a_command_is_told_with_arguments_options_and_groups(app: typer.Typer) -> None:
    text = command_line(app, "x")
    assert "## x run\n\n`x run WHERE [OPTIONS]`\n\nRun on." in text
    assert "| `WHERE` | text | required | A place. |" in text
    assert "| `--often` | integer, >= 1 | `2` | How often. |" in text
    assert "| `--loud` | flag |  | Say it. |" in text
    assert "## x things\n\nThings." in text
    assert "### x things list\n\n`x things list [OPTIONS]`\n\nAll." in text


def test_an_operation_is_told_with_scope_body_and_answer() -> None:
    schema = {"title": "Thing", "type": "object", "properties": {"id": {"type": "string"}}}
    content = {"application/json": {"schema": {"$ref": "#/components/schemas/Thing"}}}
    operation = {
        "tags": ["things"], "summary": "Make one.", "requestBody": {"content": content},
        "responses": {"200": {"content": content}, "400": {"description": "No."}},
    }  # fmt: skip
    document = {
        "paths": {"/things": {"post": operation}},
        "components": {"schemas": {"Thing": schema}},
    }
    text = operations(document, {"/things": "jobs"}.get)
    assert "## Things\n\n### POST /things\n\nMake one. Scope: `jobs`." in text
    assert "Body, `application/json`:\n\n| key |" in text
    assert "Answer: [Thing](#thing)." in text
    assert text.index("## Objects") < text.index("### Thing\n")


class Held(BaseModel):
    """One of many."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    size: int
    """In bytes."""


class Holder(BaseModel):
    """Has others."""

    many: list[Held]
    named: dict[str, Held]
    one: Held | None = None


def test_objects_within_objects_are_told_once_and_linked() -> None:
    app = FastAPI()

    @app.get("/holder", tags=["things"])
    def holder() -> Holder:
        """What there is."""
        raise NotImplementedError

    text = operations(app.openapi(), lambda _: None)
    assert "Answer: [Holder](#holder)." in text
    assert "| `many` | list of [Held](#held) | required |  |" in text
    assert "| `named` | object of [Held](#held) | required |  |" in text
    assert "| `one` | [Held](#held) |  |  |" in text
    assert text.count("### Held\n\nOne of many.\n\n| key |") == 1
    assert "| `size` | integer | required | In bytes. |" in text


def test_a_setting_is_named_as_it_is_read() -> None:
    assert variable("host") == "`INFOPRUNE_HOST`"
    assert variable("port") == "`PORT` or `INFOPRUNE_PORT`"
    assert variable("otlp_endpoint") == "`INFOPRUNE_OTLP_ENDPOINT` or `OTEL_EXPORTER_OTLP_ENDPOINT`"


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    front = create_app(Settings(redis_url="redis://localhost", auth="off"))
    found: dict[str, Any] = front.app.openapi()  # type: ignore[attr-defined]  # FastAPI's
    return found


def test_every_parameter_of_a_path_has_a_sentence(document: dict[str, Any]) -> None:
    for path, item in document["paths"].items():
        for method, operation in item.items():
            for each in operation.get("parameters", ()):
                assert each.get("description", "").endswith("."), (method, path, each["name"])


@pytest.mark.parametrize(
    "path", ["/v1/chat/completions", "/v1/completions", "/v1/vqa", "/compress", "/compress/check"]
)
def test_every_key_of_a_main_endpoint_has_a_sentence(document: dict[str, Any], path: str) -> None:
    operation = document["paths"][path]["post"]
    (content,) = operation["requestBody"]["content"].values()
    for name, value in content["schema"]["properties"].items():
        assert value.get("description", "").endswith("."), name
    assert next(r for s, r in operation["responses"].items() if s.startswith("2"))["description"]


def test_a_key_is_asked_for_where_one_is_needed(document: dict[str, Any]) -> None:
    assert document["paths"]["/health"]["get"]["security"] == []
    assert document["paths"]["/v1/vqa"]["post"]["security"] == [{"key": []}]
    assert document["components"]["securitySchemes"]["key"]["scheme"] == "bearer"


def test_a_chart_becomes_an_image_with_a_size_and_a_colour() -> None:
    svg = '<svg viewBox="0 0 100.0 50.0"><path style="stroke: currentColor"/></svg>'
    assert as_image(svg) == (
        '<svg width="140" height="70" viewBox="0 0 100.0 50.0">'
        '<path style="stroke: #808080"/></svg>'
    )
