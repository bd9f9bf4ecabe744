"""`/aliases`: who answers a name, its shadow and its canary, and how they compare."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from functools import partial
from typing import Annotated, Any, Literal, TypeVar

from fastapi import APIRouter, Body, Path, Request
from pydantic import BaseModel, ConfigDict, Field
from redis.exceptions import RedisError

from service.errors import AliasNotFoundError, AliasStateError, QueueUnavailableError
from service.gateway.actor import actor
from service.gateway.parameters import AliasName, Why
from service.gateway.state import Gateway
from service.rollout import changes
from service.rollout.counters import read_comparison
from service.rollout.records import Alias, By, CanaryRules, Change, Name, Setting, Shadow, Target
from service.rollout.store import RolloutStore
from service.rollout.summary import PairSummary, summarise

router = APIRouter(prefix="/aliases", tags=["aliases"])
T = TypeVar("T")
NewName = Annotated[
    Name, Path(description="Name of the alias; it is made where it does not exist.")
]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    reason: Annotated[str, Field(max_length=500)] = ""
    """For the history."""


class SetAlias(_Body):
    """Who answers the alias, by weight."""

    targets: Annotated[list[Target], Field(min_length=1, max_length=16)]
    """The models that answer, each with its weight."""
    sticky: bool = True
    """Whether a client, known by `user` or a session header, stays with its model."""


class Promote(_Body):
    """Let one model answer everything."""

    model: str | None = None
    """By default the canary's or the shadow's candidate."""


class Reason(_Body):
    """Why."""


class StartShadow(_Body):
    """Copy requests to a candidate."""

    candidate: str
    """The model that gets the copies."""
    share: Annotated[float, Field(gt=0, le=1)] = 0.25
    """Of the requests that are copied."""


class StartCanary(CanaryRules):
    """Give a candidate a growing share of the requests."""

    candidate: str
    """The model that shall take over."""
    original: str | None = None
    """The model that the candidate is compared with; an alias that does not exist yet is made of it."""
    reason: Annotated[str, Field(max_length=500)] = ""
    """For the history."""


class AliasView(BaseModel):
    """An alias, and how its pair compares."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    alias: Alias
    comparison: PairSummary | None = None
    """Of the running canary or shadow, or of the last canary; None where there is none."""


class AliasList(BaseModel):
    """All aliases."""

    object: Literal["list"] = "list"
    data: list[Alias]


class ChangeList(BaseModel):
    """Changes, newest first."""

    object: Literal["list"] = "list"
    data: list[Change]


_TARGETS = [{"targets": [{"model": "shapes-llava", "weight": 1}], "reason": "first version"}]
_CANARY = [{"candidate": "shapes-llava-flops0.5", "min_agreement": 0.95, "min_samples": 500}]
_SHADOW = [{"candidate": "shapes-llava-flops0.5", "share": 0.25}]


@router.get("")
async def list_aliases(request: Request) -> AliasList:
    """All aliases, as this gateway routes by them."""
    return AliasList(data=list(_gateway(request).snapshot.aliases.values()))


@router.get("/{name}")
async def get_alias(request: Request, name: AliasName) -> AliasView:
    """One alias: targets, shadow, canary with its verdict, and the comparison so far."""
    gateway = _gateway(request)
    found = gateway.snapshot.aliases.get(name)
    if found is None:
        raise AliasNotFoundError(name, sorted(gateway.snapshot.aliases))
    return await _view(gateway, found)


@router.put("/{name}")
async def set_alias(
    request: Request, name: NewName, body: Annotated[SetAlias, Body(examples=_TARGETS)]
) -> AliasView:
    """Create an alias, or change its targets, weights and stickiness."""
    setting = Setting(targets=tuple(body.targets), sticky=body.sticky)

    def make(known: Alias | None) -> Alias:
        if known is None:
            return changes.create(name, setting, now=time.time())
        return changes.set_targets(known, setting, now=time.time())

    by = actor(request, body.reason)
    return await _write(request, lambda store: store.set_alias(name, make, by))


@router.delete("/{name}")
async def delete_alias(request: Request, name: AliasName, reason: Why = "") -> Alias:
    """Forget an alias; its models stay."""
    by = actor(request, reason)
    return await _stored(_gateway(request), lambda store: store.delete_alias(name, by))


@router.post("/{name}/promote")
async def promote(request: Request, name: AliasName, body: Promote) -> AliasView:
    """Let one model answer everything; what was before can be rolled back to."""

    def change(alias: Alias) -> Alias:
        return changes.promote(alias, body.model or _candidate(alias), now=time.time())

    return await _change(request, name, change, body.reason, "promote")


@router.post("/{name}/rollback")
async def roll_back(request: Request, name: AliasName, body: Reason) -> AliasView:
    """End a running canary; where none runs, restore the former targets."""
    change = partial(changes.roll_back, why=body.reason, now=time.time())
    return await _change(request, name, change, body.reason, "roll back")


@router.post("/{name}/shadow")
async def start_shadow(
    request: Request, name: AliasName, body: Annotated[StartShadow, Body(examples=_SHADOW)]
) -> AliasView:
    """Copy a share of the requests to a candidate, which answers no client."""
    shadow = Shadow(candidate=body.candidate, share=body.share)
    change = partial(changes.set_shadow, shadow=shadow, now=time.time())
    return await _change(request, name, change, body.reason, f"shadow {body.candidate}")


@router.delete("/{name}/shadow")
async def end_shadow(request: Request, name: AliasName, reason: Why = "") -> AliasView:
    """Copy no more requests."""
    change = partial(changes.set_shadow, shadow=None, now=time.time())
    return await _change(request, name, change, reason, "end shadow")


@router.post("/{name}/canary")
async def start_canary(
    request: Request, name: NewName, body: Annotated[StartCanary, Body(examples=_CANARY)]
) -> AliasView:
    """Let a candidate climb while it holds; it is rolled back by itself where it does not."""
    others = {"candidate", "original", "reason"}
    rules = CanaryRules.model_validate(body.model_dump(exclude=others))
    candidate, original, what = body.candidate, body.original, f"canary {body.candidate}"
    if original is None:
        change = partial(changes.start_canary, candidate=candidate, rules=rules, now=time.time())
        return await _change(request, name, change, body.reason, what)

    def make(known: Alias | None) -> Alias:
        return changes.begin_canary(known, name, original, candidate, rules, now=time.time())

    by = actor(request, body.reason)
    return await _write(request, lambda store: store.set_alias(name, make, by, what))


@router.delete("/{name}/canary")
async def stop_canary(request: Request, name: AliasName, reason: Why = "") -> AliasView:
    """Stop a canary by hand; the reference answers everything again."""
    sentence = reason or "Stopped by hand."

    def change(alias: Alias) -> Alias:
        return changes.end_canary(alias, "stopped", sentence, now=time.time())

    return await _change(request, name, change, reason, "stop canary")


@router.get("/{name}/history")
async def history(request: Request, name: AliasName) -> ChangeList:
    """Who changed the alias, when and why; also of one that was deleted."""
    found = await _stored(_gateway(request), lambda s: s.history(kind="alias", name=name))
    return ChangeList(data=found)


def _gateway(request: Request) -> Gateway:
    gateway: Gateway = request.app.state.gateway
    return gateway


def _candidate(alias: Alias) -> str:
    if alias.canary is not None:
        return alias.canary.candidate
    if alias.shadow is not None:
        return alias.shadow.candidate
    raise AliasStateError(f"The alias {alias.name!r} has no candidate; name the model to promote.")


async def _change(
    request: Request, name: str, change: Callable[[Alias], Alias], reason: str, what: str
) -> AliasView:
    by: By = actor(request, reason)
    return await _write(request, lambda store: store.change_alias(name, change, by, what))


async def _write(request: Request, write: Callable[[RolloutStore], Alias]) -> AliasView:
    gateway = _gateway(request)
    written = await _stored(gateway, write)
    await gateway.refresh()  # this gateway goes by it at once, the others within their poll
    return await _view(gateway, written)


async def _stored(gateway: Gateway, act: Callable[[RolloutStore], T]) -> T:
    try:
        return await asyncio.to_thread(act, RolloutStore(gateway.redis))
    except RedisError as error:
        raise QueueUnavailableError from error


async def _view(gateway: Gateway, alias: Alias) -> AliasView:
    return AliasView(alias=alias, comparison=await asyncio.to_thread(_compare, gateway, alias))


def _compare(gateway: Gateway, alias: Alias) -> Any:
    """How the running pair, or the last canary's, compares; None while Redis is away."""
    try:
        if alias.canary is not None:
            counted = read_comparison(gateway.redis, alias.canary.id)
            return summarise(counted, alias.canary.rules, canary=alias.canary, now=time.time())
        if alias.shadow is not None:
            return summarise(read_comparison(gateway.redis, alias.shadow.id), CanaryRules())
        if alias.last_canary is not None:
            return summarise(read_comparison(gateway.redis, alias.last_canary.id), CanaryRules())
    except RedisError:
        return None
    return None
