"""The generated pages: name in `docs/` and the function that writes it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from pydantic import AliasChoices, BaseModel

from compressor.checkpoint import Compression, LayerShape
from compressor.recipe import TARGETS, Recipe
from deploy.reference.commands import command_line
from deploy.reference.http_api import operations
from deploy.reference.schema import Row, one_line, rows
from service.cli import app
from service.errors import ServiceError
from service.gateway.app import create_app
from service.gateway.auth import required_scope
from service.settings import Settings

_WRITTEN = "<!-- Written by `make reference`; change the code, not this page. -->\n"


def cli_page() -> str:
    """`cli.md`."""
    return f"""{_WRITTEN}# Command line

`infoprune --help` and `infoprune COMMAND --help` say the same. A command that fails ends with status 1
and one sentence on standard error, one that was typed wrongly with status 2. `infoprune models` and
`infoprune alias` ask the gateway at `--url`, by default the one that `PORT` and `INFOPRUNE_HOST` name, with
the key in `INFOPRUNE_API_KEY`. `infoprune keys`, `infoprune workers` and `infoprune models register` use the
store instead: call them in the directory in which `infoprune serve` runs, or set `REDIS_URL` or
`INFOPRUNE_RUN_DIR`.

{command_line(app, "infoprune")}"""


def http_page() -> str:
    """`http-api.md`."""
    front = create_app(Settings(redis_url="redis://localhost", auth="off"))
    document = front.app.openapi()  # type: ignore[attr-defined]  # FastAPI's
    return f"""{_WRITTEN}# HTTP API

The running gateway has the same as `/openapi.json`, and as a page to try things on at `/docs` (Swagger UI, which
comes with the gateway: nothing is loaded from elsewhere). A key is sent as `Authorization: Bearer KEY`; its [scope](reliability.md#keys) must be the one that is named, or `admin`.

`/v1` is OpenAI's interface: any OpenAI client works with `base_url="http://HOST:PORT/v1"`; fields that are not
listed reach the engine untouched. An answer says who gave it in `x-infoprune-model`, `x-infoprune-variant` and,
where an alias was asked, `x-infoprune-alias`.

{operations(document, required_scope)}
{_errors()}"""


def recipe_page() -> str:
    """`recipe-keys.md`."""
    found = _rows(Recipe)
    targets = [row for row in found if row.name in TARGETS]
    others = [row for row in found if row.name not in TARGETS]
    return f"""{_WRITTEN}# Recipe keys

A recipe is YAML or JSON, in a file, inline (`--recipe 'flops: 0.5'`), or the `recipe` of `POST /compress`.
Unknown keys are refused by name. `a.b` is the key `b` in the section `a`. [Recipes for six goals](recipes.md)
puts them to use.

## Targets

Exactly one is given.

{_table(targets)}
## All other keys

{_table(others)}"""


def settings_page() -> str:
    """`settings.md`."""
    found = rows(Settings.model_json_schema(by_alias=False), {}, depth=1)
    table = "\n".join(
        f"| {variable(row.name)} | {row.kind} | {_setting_default(row)} | {row.meaning} |"
        for row in found
    )
    return f"""{_WRITTEN}# Settings

Environment variables, read in one place (`service/settings.py`). Times are in seconds, sizes in bytes; lists
and objects are written as JSON.

| variable | | default | |
|---|---|---|---|
{table}
"""


def checkpoint_page() -> str:
    """`checkpoint.md`."""
    return f"""{_WRITTEN}# Checkpoint format

A compressed model is a Hugging Face directory:

| file | |
|---|---|
| `config.json` | the original's, plus the section `compression` below |
| `model.safetensors` | the tensors, really smaller; never pickle |
| processor and tokenizer files | the original's |
| `plan.json` | what was decided, replayable: `infoprune compress MODEL --recipe ... --plan plan.json --out DIR` |
| `report.json` | both models' parameters, FLOPs, accuracies and, where the recipe evaluates, the time of a request |
| `report/index.html`, `report/data.json` | what was cut in which layer and why, as a page and as data |
| `README.md` | the model card, with the measured table |
| `manifest.json` | the sha256 of every file, written last |

The directory appears by one rename, when it is whole. One without a valid manifest, with a file that differs
from it, or with weights that it does not list, is no model and is refused.

| layout | shapes | loads in |
|---|---|---|
| `adaptive` | uneven heads, widths and ranks by layer | vLLM where this package is installed (`vllm.general_plugins`); `compressor.load(DIR)` gives a transformers model |
| `uniform` | the same in every layer of a tower, no ranks | stock vLLM and stock transformers |

## `compression` in `config.json`

{_table(_rows(Compression, depth=1))}
Each layer of a tower:

{_table(_rows(LayerShape))}
A factored matrix `x_proj` is two tensors in the file, `x_in_factor` (rank, in) without a bias and `x_out_factor`
(out, rank) with the original's bias where it had one. Where `qkv_proj` or `gate_up_proj` has a rank, q, k and v, or
gate and up, have the one input factor `qkv_in_factor` or `gate_up_in_factor` and output factors of their own.
"""


PAGES: Mapping[str, Callable[[], str]] = {
    "cli.md": cli_page,
    "http-api.md": http_page,
    "recipe-keys.md": recipe_page,
    "settings.md": settings_page,
    "checkpoint.md": checkpoint_page,
}


def _rows(model: type[BaseModel], *, depth: int = 2) -> list[Row]:
    schema = model.model_json_schema()
    return list(rows(schema, schema.get("$defs", {}), depth=depth))


def _table(found: list[Row]) -> str:
    lines = [
        f"| `{row.name}` | {row.kind} | {'required' if row.required else row.default} | {row.meaning} |"
        for row in found
    ]
    return "\n".join(["| key | | default | |\n|---|---|---|---|", *lines, ""])


def variable(name: str) -> str:
    """All that a setting is read from; its own name is for the code only."""
    alias = Settings.model_fields[name].validation_alias
    given = alias.choices if isinstance(alias, AliasChoices) else [alias]
    named = [f"`{each}`" for each in given if isinstance(each, str) and each != name]
    return " or ".join(named or [f"`{Settings.model_config['env_prefix']}{name.upper()}`"])


def _setting_default(row: Row) -> str:
    """Empty objects come from a factory, which a schema does not tell."""
    value: Any = Settings.model_fields[row.name].get_default(call_default_factory=True)
    return "`{}`" if value == {} else row.default


def _errors() -> str:
    """Every error that a client can be told, by status."""
    found = sorted(
        {(e.status, e.code, one_line(e.__doc__ or "")) for e in _subclasses(ServiceError)}
    )
    table = "\n".join(f"| {status} | `{code}` | {said} |" for status, code, said in found)
    return f"""## Errors

Every error has OpenAI's shape: `{{"error": {{"message": ..., "type": ..., "param": ..., "code": ...}}}}`, the message
one sentence. 429 and 503 carry `Retry-After`. A stream that has begun ends with such an object as its last event.

| status | code | |
|---|---|---|
{table}
"""


def _subclasses(error: type[ServiceError]) -> list[type[ServiceError]]:
    """All that `service/errors.py` defines; what other modules add is told on a command line only."""
    found = [e for e in error.__subclasses__() if e.__module__ == ServiceError.__module__]
    return [*found, *(deeper for each in found for deeper in _subclasses(each))]
