"""`infoprune models` and `infoprune alias`: the registry and roll-outs, through the gateway."""

from __future__ import annotations

import json
import time
from typing import Annotated, Any
from urllib.parse import quote, urlencode

import typer
from rich.console import Console
from rich.table import Table

from service.client import GatewayClient
from service.command import service_errors
from service.errors import ServiceError
from service.rollout.records import CanaryRules
from service.settings import Settings

models = typer.Typer(no_args_is_help=True, help="Registered models: lineage, retire, delete.")
alias = typer.Typer(no_args_is_help=True, help="Who answers a name: weights, shadow, canary.")

AsJson = Annotated[bool, typer.Option("--json", help="Print the gateway's JSON.")]
Url = Annotated[str | None, typer.Option(help="The gateway; by default the one of the settings.")]
Why = Annotated[str, typer.Option(help="For the history.")]
AliasName = Annotated[str, typer.Argument(help="The alias.")]
ModelName = Annotated[str, typer.Argument(help="The model.")]
Percent = Annotated[
    float | None, typer.Option(min=0.01, max=100, help="To begin with, of the requests; else 1.")
]
Original = Annotated[str | None, typer.Option(help="Makes the alias, answered by this model.")]


@models.command("list")
def list_models(as_json: AsJson = False, url: Url = None) -> None:
    """All models with state, original, parameters and the aliases that point to them."""
    answer = _call(url, "GET", "/models")
    rows = [
        [
            (m := view["model"])["name"], m["state"], "yes" if view["ready"] else "no",
            m["base"] or "", f"{m['params']:,}", _accuracy(m), ", ".join(view["aliases"]),
        ]
        for view in answer["data"]
    ]  # fmt: skip
    header = ["model", "state", "ready", "original", "parameters", "accuracy", "aliases"]
    _show(answer, as_json, header, rows)


@models.command("show")
def show_model(name: ModelName, as_json: AsJson = False, url: Url = None) -> None:
    """One model: lineage and measurements."""
    answer = _call(url, "GET", f"/models/{quote(name)}")
    entry = answer["model"] | {"ready": answer["ready"], "aliases": answer["aliases"]}
    rows = [[key, _cell(value)] for key, value in entry.items() if value not in (None, {}, [])]
    _show(answer, as_json, ["", name], rows)


@models.command("retire")
def retire(name: ModelName, why: Why = "", as_json: AsJson = False, url: Url = None) -> None:
    """Give a model no new requests; its worker is stopped once it has drained."""
    answer = _call(url, "POST", f"/models/{quote(name)}/retire", {"reason": why})
    _say(answer, as_json, f"{name} is {answer['model']['state']}.")


@models.command("delete")
def delete(
    name: ModelName,
    files: Annotated[bool, typer.Option("--files", help="Remove its checkpoint too.")] = False,
    why: Why = "",
    as_json: AsJson = False,
    url: Url = None,
) -> None:
    """Forget a retired model."""
    query = urlencode({"files": str(files).lower(), "reason": why})
    answer = _call(url, "DELETE", f"/models/{quote(name)}?{query}")
    _say(answer, as_json, f"{name} is forgotten.")


@models.command("history")
def model_history(name: ModelName, as_json: AsJson = False, url: Url = None) -> None:
    """Who changed a model's state, when and why."""
    _show_history(_call(url, "GET", f"/models/{quote(name)}/history"), as_json)


@alias.command("list")
def list_aliases(as_json: AsJson = False, url: Url = None) -> None:
    """All aliases."""
    answer = _call(url, "GET", "/aliases")
    rows = [[a["name"], _targets(a), _beside(a), str(a["version"])] for a in answer["data"]]
    _show(answer, as_json, ["alias", "targets", "beside", "version"], rows)


@alias.command("show")
def show_alias(name: AliasName, as_json: AsJson = False, url: Url = None) -> None:
    """One alias, and how its shadow or canary compares."""
    _show_view(_call(url, "GET", f"/aliases/{quote(name)}"), as_json)


@alias.command("set")
def set_alias(
    name: AliasName,
    targets: Annotated[list[str], typer.Argument(help="MODEL or MODEL=WEIGHT, one or several.")],
    sticky: Annotated[bool, typer.Option(help="A client stays with its model.")] = True,
    why: Why = "",
    as_json: AsJson = False,
    url: Url = None,
) -> None:
    """Create an alias, or change who answers it."""
    with service_errors():
        found = [_target(text) for text in targets]
    body = {"targets": found, "sticky": sticky, "reason": why}
    _show_view(_call(url, "PUT", f"/aliases/{quote(name)}", body), as_json)


@alias.command("delete")
def delete_alias(name: AliasName, why: Why = "", as_json: AsJson = False, url: Url = None) -> None:
    """Forget an alias; its models stay."""
    answer = _call(url, "DELETE", f"/aliases/{quote(name)}?{urlencode({'reason': why})}")
    _say(answer, as_json, f"{name} is forgotten.")


@alias.command("promote")
def promote(
    name: AliasName,
    model: Annotated[str | None, typer.Argument(help="By default the candidate.")] = None,
    why: Why = "",
    as_json: AsJson = False,
    url: Url = None,
) -> None:
    """Let one model answer everything."""
    body = {"model": model, "reason": why}
    _show_view(_call(url, "POST", f"/aliases/{quote(name)}/promote", body), as_json)


@alias.command("rollback")
def roll_back(name: AliasName, why: Why = "", as_json: AsJson = False, url: Url = None) -> None:
    """End a running canary, or restore the former targets."""
    body = {"reason": why}
    _show_view(_call(url, "POST", f"/aliases/{quote(name)}/rollback", body), as_json)


@alias.command("shadow")
def shadow(
    name: AliasName,
    candidate: Annotated[str | None, typer.Argument(help="Gets copies of requests.")] = None,
    share: Annotated[float, typer.Option(min=0, max=1, help="Of the requests, 0 to 1.")] = 0.25,
    stop: Annotated[bool, typer.Option("--stop", help="Copy no more.")] = False,
    why: Why = "",
    as_json: AsJson = False,
    url: Url = None,
) -> None:
    """Copy requests to a candidate, which answers no client, and compare."""
    path = f"/aliases/{quote(name)}/shadow"
    _begin_or_stop(url, path, candidate, {"share": share}, why, stop=stop, as_json=as_json)


@alias.command("canary")
def canary(  # noqa: PLR0913 - a parameter for every option
    name: AliasName,
    candidate: Annotated[str | None, typer.Argument(help="Gets a growing share.")] = None,
    *,
    original: Original = None,
    percent: Percent = None,
    rule: Annotated[
        list[str] | None,
        typer.Option(help="Such as min_agreement=0.95 or steps=1,10,100; see docs/rollout.md."),
    ] = None,
    stop: Annotated[bool, typer.Option("--stop", help="The reference answers alone.")] = False,
    why: Why = "",
    as_json: AsJson = False,
    url: Url = None,
) -> None:
    """Let a candidate climb while it holds; it is rolled back by itself where it does not."""
    with service_errors():
        settings: dict[str, Any] = dict(_rule(text) for text in rule or [])
        if percent is not None and "steps" in settings:
            raise ServiceError("Give either --percent or the rule steps, not both.")
    if percent is not None:
        settings["steps"] = [percent, *(s for s in CanaryRules().steps if s > percent)]
    if original is not None:
        settings["original"] = original
    path = f"/aliases/{quote(name)}/canary"
    _begin_or_stop(url, path, candidate, settings, why, stop=stop, as_json=as_json)


@alias.command("history")
def alias_history(name: AliasName, as_json: AsJson = False, url: Url = None) -> None:
    """Who changed an alias, when and why."""
    _show_history(_call(url, "GET", f"/aliases/{quote(name)}/history"), as_json)


def _begin_or_stop(
    url: str | None,
    path: str,
    candidate: str | None,
    settings: dict[str, Any],
    why: str,
    *,
    stop: bool,
    as_json: bool,
) -> None:
    with service_errors():
        if stop is (candidate is not None):
            raise ServiceError("Give either a candidate or --stop.")
    if stop:
        answer = _call(url, "DELETE", f"{path}?{urlencode({'reason': why})}")
    else:
        answer = _call(url, "POST", path, {"candidate": candidate, "reason": why, **settings})
    _show_view(answer, as_json)


def _call(url: str | None, method: str, path: str, body: Any = None) -> Any:
    settings = Settings()
    with service_errors():
        client = GatewayClient(url or settings.gateway_url, api_key=settings.api_key)
        return client.call(method, path, body)


def _target(text: str) -> dict[str, Any]:
    model, equals, weight = text.partition("=")
    try:
        return {"model": model, "weight": float(weight) if equals else 1.0}
    except ValueError as error:
        raise ServiceError(f"{text!r} is no target; write MODEL or MODEL=WEIGHT.") from error


def _rule(text: str) -> tuple[str, float | list[float]]:
    key, _, value = text.partition("=")
    try:
        numbers = [float(part) for part in value.split(",")]
    except ValueError as error:
        raise ServiceError(f"{text!r} is no rule; write KEY=NUMBER or steps=1,5,25.") from error
    if key not in CanaryRules.model_fields:
        rules = ", ".join(CanaryRules.model_fields)
        raise ServiceError(f"There is no rule {key!r}; rules: {rules}.")
    return key, numbers if key == "steps" else numbers[0]


def _say(answer: Any, as_json: bool, sentence: str) -> None:
    typer.echo(json.dumps(answer, indent=2) if as_json else sentence)


def _show(answer: Any, as_json: bool, header: list[str], rows: list[list[str]]) -> None:
    if as_json:
        typer.echo(json.dumps(answer, indent=2))
        return
    table = Table(*header)
    for row in rows:
        table.add_row(*row)
    Console().print(table)


def _show_view(view: Any, as_json: bool) -> None:
    found, comparison = view["alias"], view["comparison"]
    rows = [["targets", _targets(found)], ["beside", _beside(found)]]
    if comparison is not None:
        if not _beside(found):
            rows.append(["measured", "before the last shadow or canary ended"])
        rows += [[c["name"], c["sentence"]] for c in comparison["criteria"]]
        if comparison["next"] is not None:
            rows.append(["next", f"{comparison['next']}: {comparison['reason']}"])
    last = found["last_canary"]
    if last is not None:
        ended = f"{last['candidate']} {last['outcome']} at {last['percent']:g} %: {last['reason']}"
        rows.append(["last canary", ended])
    _show(view, as_json, ["", found["name"]], rows)


def _show_history(answer: Any, as_json: bool) -> None:
    rows = [
        [time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(c["when"])), c["who"], c["what"], c["why"]]
        for c in answer["data"]
    ]
    _show(answer, as_json, ["when (UTC)", "who", "what", "why"], rows)


def _targets(found: Any) -> str:
    total = sum(t["weight"] for t in found["targets"])
    return ", ".join(f"{t['model']} {100 * t['weight'] / total:g} %" for t in found["targets"])


def _beside(found: Any) -> str:
    if found["canary"] is not None:
        percent = found["canary"]["rules"]["steps"][found["canary"]["step"]]
        return f"canary {found['canary']['candidate']} at {percent:g} %"
    if found["shadow"] is not None:
        return f"shadow {found['shadow']['candidate']} of {100 * found['shadow']['share']:g} %"
    return ""


def _accuracy(entry: Any) -> str:
    return ", ".join(f"{name} {i['value']:.3f}" for name, i in entry["accuracy"].items())


def _cell(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
