"""`/compress/options` and `/compress/check`: what a form must know, and what it would do."""

from __future__ import annotations

import asyncio
from typing import Any

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict

from compressor.evaluate.datasets import DATASETS
from compressor.recipe import TARGETS, Recipe, parse_recipe
from service.gateway.compression import SCHEMA, read_request
from service.gateway.families import FAMILIES
from service.gateway.presets import GOALS
from service.gateway.state import Gateway

router = APIRouter(prefix="/compress", tags=["compression"])
_TARGETS = {
    "flops": "{:g} % of its FLOPs before the first token",
    "params": "{:g} % of its parameters",
    "latency": "{:g} % of its measured latency",
    "max_accuracy_drop": "the smallest size that loses at most {:g} points of accuracy",
}


class Preset(BaseModel):
    """A recipe to start from."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    name: str
    """The goal, as the heading of docs/recipes.md."""
    description: str
    """What the recipe does, in one sentence."""
    recipe: Recipe
    """With its defaults."""


PRESETS = tuple(
    Preset(name=goal.name, description=goal.description, recipe=parse_recipe(goal.recipe))
    for goal in GOALS
)


class Options(BaseModel):
    """What a recipe can say."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    families: list[str]
    """Architectures that can be compressed."""
    targets: list[str]
    """Exactly one of them is given."""
    datasets: list[str]
    """Those that come with the service; a recipe may name paths as well."""
    presets: list[Preset]
    """Recipes to start from, those of docs/recipes.md: each a name, a description and a recipe."""
    recipe: dict[str, Any]
    """The recipe's JSON schema, with defaults."""


class Checked(BaseModel):
    """A request that would be queued."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    model: str
    """The original."""
    name: str
    """What the compressed model would be called."""
    recipe: Recipe
    """With its defaults."""
    message: str
    """What the job would do, in two sentences."""


@router.get("/options")
async def options() -> Options:
    """What a form for `POST /compress` must know."""
    return Options(
        families=list(FAMILIES),
        targets=list(TARGETS),
        datasets=list(DATASETS),
        presets=list(PRESETS),
        recipe=Recipe.model_json_schema(),
    )


@router.post("/check", openapi_extra=SCHEMA)
async def check(request: Request) -> Checked:
    """Judge a request as `POST /compress` would, and say what it would do; nothing is queued."""
    gateway: Gateway = request.app.state.gateway
    asked, recipe = await read_request(request)
    plain = recipe.model_dump(mode="json")
    name = await asyncio.to_thread(gateway.queue.name_of, asked.model, plain, asked.name)
    message = describe(asked.model, name, recipe)
    return Checked(model=asked.model, name=name, recipe=recipe, message=message)


def describe(model: str, name: str, recipe: Recipe) -> str:
    """What a job would do, in two sentences. Pure."""
    target, value = recipe.target
    asked = _TARGETS[target].format(100 * value)
    found = (
        f"{model} would be compressed to {asked}, as {name}: {recipe.scheme}, layout {recipe.layout}, "
        f"{_listed(recipe.towers)}."
    )
    calibration = f"Calibration on {_listed(recipe.calibration.datasets)}"
    if not recipe.evaluation.samples:
        return f"{found} {calibration}, no evaluation."
    samples, tested = recipe.evaluation.samples, _listed(recipe.evaluation.datasets)
    return f"{found} {calibration}, {samples} test questions of {tested}."


def _listed(words: tuple[str, ...]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
