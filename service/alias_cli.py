"""`infoprune alias`: who answers a name, through the gateway."""

from __future__ import annotations

from typing import Annotated, Any
from urllib.parse import quote, urlencode

import typer

from service.command import service_errors
from service.errors import ServiceError
from service.gateway_cli import AsJson, Url, Why, call, client, say, show, show_history
from service.models_cli import why_not_ready
from service.rollout.records import CanaryRules
from service.top.view import canary_percent, shares

app = typer.Typer(no_args_is_help=True, help="Who answers a name: weights, shadow, canary.")

AliasName = Annotated[str, typer.Argument(help="The alias.")]
Percent = Annotated[
    float | None, typer.Option(min=0.01, max=100, help="To begin with, of the requests; else 1.")
]
Original = Annotated[str | None, typer.Option(help="Makes the alias, answered by this model.")]


@app.command("list")
def list_aliases(as_json: AsJson = False, url: Url = None) -> None:
    """All aliases."""
    answer = call(url, "GET", "/aliases")
    rows = [[a["name"], _targets(a), _beside(a), str(a["version"])] for a in answer["data"]]
    show(answer, as_json, ["alias", "targets", "beside", "version"], rows)


@app.command("show")
def show_alias(name: AliasName, as_json: AsJson = False, url: Url = None) -> None:
    """One alias, and how its shadow or canary compares."""
    _show_view(url, call(url, "GET", f"/aliases/{quote(name)}"), as_json)


@app.command("set")
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
    _show_view(url, call(url, "PUT", f"/aliases/{quote(name)}", body), as_json)


@app.command("delete")
def delete_alias(name: AliasName, why: Why = "", as_json: AsJson = False, url: Url = None) -> None:
    """Forget an alias; its models stay."""
    answer = call(url, "DELETE", f"/aliases/{quote(name)}?{urlencode({'reason': why})}")
    say(answer, as_json, f"{name} is forgotten.")


@app.command("promote")
def promote(
    name: AliasName,
    model: Annotated[str | None, typer.Argument(help="By default the candidate.")] = None,
    why: Why = "",
    as_json: AsJson = False,
    url: Url = None,
) -> None:
    """Let one model answer everything."""
    body = {"model": model, "reason": why}
    _show_view(url, call(url, "POST", f"/aliases/{quote(name)}/promote", body), as_json)


@app.command("rollback")
def roll_back(name: AliasName, why: Why = "", as_json: AsJson = False, url: Url = None) -> None:
    """End a running canary, or restore the former targets."""
    body = {"reason": why}
    _show_view(url, call(url, "POST", f"/aliases/{quote(name)}/rollback", body), as_json)


@app.command("shadow")
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


@app.command("canary")
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


@app.command("history")
def alias_history(name: AliasName, as_json: AsJson = False, url: Url = None) -> None:
    """Who changed an alias, when and why."""
    show_history(call(url, "GET", f"/aliases/{quote(name)}/history"), as_json)


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
        answer = call(url, "DELETE", f"{path}?{urlencode({'reason': why})}")
    else:
        answer = call(url, "POST", path, {"candidate": candidate, "reason": why, **settings})
    _show_view(url, answer, as_json)


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


def _show_view(url: str | None, view: Any, as_json: bool) -> None:
    found, comparison = view["alias"], view["comparison"]
    beside = found["canary"] or found["shadow"]
    waits = None if beside is None or as_json else _why_it_waits(url, beside["candidate"])
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
    show(view, as_json, ["", found["name"]], rows, *([waits] if waits else []))


def _why_it_waits(url: str | None, candidate: str) -> str | None:
    """Why a candidate cannot be asked. The change was made: no error of this question may hide it."""
    try:
        return why_not_ready(client(url).call("GET", f"/models/{quote(candidate)}"))
    except ServiceError:
        return None


def _targets(found: Any) -> str:
    return ", ".join(f"{model} {100 * share:g} %" for model, share in shares(found).items())


def _beside(found: Any) -> str:
    if found["canary"] is not None:
        return f"canary {found['canary']['candidate']} at {canary_percent(found):g} %"
    if found["shadow"] is not None:
        return f"shadow {found['shadow']['candidate']} of {100 * found['shadow']['share']:g} %"
    return ""
