"""`infoprune models`: the registry, through the gateway."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any
from urllib.parse import quote, urlencode

import typer

from service.gateway_cli import AsJson, Url, Why, call, moment, say, show, show_history

app = typer.Typer(no_args_is_help=True, help="Registered models: lineage, retire, delete.")

ModelName = Annotated[str, typer.Argument(help="The model.")]
_TIMES = frozenset({"created", "retired_at"})


@app.command("list")
def list_models(as_json: AsJson = False, url: Url = None) -> None:
    """All models: state, whether they can be asked, original, parameters, accuracy, aliases.

    Below, for each that cannot be asked, why.
    """
    answer = call(url, "GET", "/models")
    rows = [
        [
            (m := view["model"])["name"], m["state"], "yes" if view["ready"] else "no",
            m["base"] or "", f"{m['params']:,}", _accuracy(m), ", ".join(view["aliases"]),
        ]
        for view in answer["data"]
    ]  # fmt: skip
    header = ["model", "state", "ready", "original", "parameters", "accuracy", "aliases"]
    show(answer, as_json, header, rows, *filter(None, map(why_not_ready, answer["data"])))


@app.command("show")
def show_model(name: ModelName, as_json: AsJson = False, url: Url = None) -> None:
    """One model: lineage, accuracy, and whether it can be asked."""
    answer = call(url, "GET", f"/models/{quote(name)}")
    why = why_not_ready(answer)
    show(answer, as_json, ["", name], model_rows(answer), *([why] if why else []))


@app.command("retire")
def retire(name: ModelName, why: Why = "", as_json: AsJson = False, url: Url = None) -> None:
    """Give a model no new requests; its worker is stopped once it has drained."""
    answer = call(url, "POST", f"/models/{quote(name)}/retire", {"reason": why})
    say(answer, as_json, f"{name} is {answer['model']['state']}.")


@app.command("delete")
def delete(
    name: ModelName,
    files: Annotated[bool, typer.Option("--files", help="Remove its checkpoint too.")] = False,
    why: Why = "",
    as_json: AsJson = False,
    url: Url = None,
) -> None:
    """Forget a retired model."""
    query = urlencode({"files": str(files).lower(), "reason": why})
    answer = call(url, "DELETE", f"/models/{quote(name)}?{query}")
    say(answer, as_json, f"{name} is forgotten.")


@app.command("history")
def model_history(name: ModelName, as_json: AsJson = False, url: Url = None) -> None:
    """Who changed a model's state, when and why."""
    show_history(call(url, "GET", f"/models/{quote(name)}/history"), as_json)


def model_rows(view: Mapping[str, Any]) -> list[list[str]]:
    """What is known of a model, for a person: the rest is in its report, and in --json."""
    told = dict(view["model"])
    measured = told.pop("measured", None)
    told |= {
        "params": f"{told['params']:,}",
        "flops": ", ".join(f"{name} {value:,.0f}" for name, value in told["flops"].items()),
        "accuracy": _accuracy(told),
        "recipe": ", ".join(f"{k}: {json.dumps(v)}" for k, v in (told["recipe"] or {}).items()),
        "ready": "yes" if view["ready"] else "no",
        "aliases": ", ".join(view["aliases"]),
        "children": ", ".join(view["children"]),
    }
    if measured and not told["report"]:
        told["measured"] = "see --json"
    return [
        [key, moment(value) if key in _TIMES else str(value)]
        for key, value in told.items()
        if value not in (None, "", 0, {}, [])
    ]


def why_not_ready(view: Mapping[str, Any]) -> str | None:
    """Why an active model cannot be asked; None where it can."""
    name, workers = view["model"]["name"], view.get("workers", [])  # older gateways tell of none
    if view["ready"] or view["model"]["state"] != "active":
        return None
    errors = [worker["error"] for worker in workers if worker["error"]]
    if errors:
        return f"{name} is not ready: {errors[0]}"
    if workers:
        return f"{name} is not ready: its worker is {workers[0]['status']}."
    return f"{name} is not ready: no worker runs it yet; on few cores they start one after another."


def _accuracy(entry: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {i['value']:.3f}" for name, i in entry["accuracy"].items())
