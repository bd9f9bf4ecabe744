"""The recipe: what to compress towards, on which data. Unknown keys are refused by name."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from compressor.errors import RecipeError


class Calibration(BaseModel):
    """Data whose activations define what is information."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    dataset: str = "easy-vqa"
    samples: Annotated[int, Field(ge=8, le=100_000)] = 256
    """Questions of the dataset's training split, each with its image."""


class Evaluation(BaseModel):
    """Data on which original and compressed are compared."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    dataset: str = "easy-vqa"
    samples: Annotated[int, Field(ge=0)] = 500
    """Questions of the test split, drawn by the seed; 0 = no evaluation."""


class Recipe(BaseModel):
    """A compression recipe."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    flops: Annotated[float, Field(gt=0, lt=1)]
    """The share of the original's FLOPs before the first token (tower + projector + prefill)."""
    calibration: Calibration = Calibration()
    evaluation: Evaluation = Evaluation()
    round_to: Annotated[int, Field(ge=1, le=256)] = 16
    """Ranks are multiples of this: 16 suits CPUs, 64 suits GPUs."""
    ridge: Annotated[float, Field(gt=0, lt=1)] = 1e-4
    """Ridge of the least-squares compensation, relative to the mean variance of its inputs."""
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0


def parse_recipe(content: object) -> Recipe:
    """Check a recipe that was read from JSON or YAML.

    Raises:
        RecipeError: with one sentence that names the key and, for an unknown one, the nearest.
    """
    if not isinstance(content, Mapping):
        raise RecipeError("A recipe is an object of keys and values, such as {flops: 0.5}.")
    try:
        return Recipe.model_validate(content)
    except ValidationError as error:
        # An unknown key explains a missing one: it comes first.
        errors = sorted(error.errors(), key=lambda e: e["type"] != "extra_forbidden")
        raise RecipeError(_sentence(errors[0])) from error


def read_recipe(source: str) -> Recipe:
    """A recipe from a YAML or JSON file, or written inline: `flops: 0.5`.

    Raises:
        RecipeError: the file is missing or not a recipe.
    """
    path = Path(source)
    inline = ":" in source and not path.is_file()
    if not inline and not path.is_file():
        raise RecipeError(f"There is no recipe file {source!r}.")
    try:
        content = yaml.safe_load(source if inline else path.read_text())
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise RecipeError(f"Recipe {source!r} is neither YAML nor JSON.") from error
    return parse_recipe(content)


def _sentence(error: Any) -> str:
    """One sentence for pydantic's first complaint."""
    location = [str(part) for part in error["loc"]]
    key = ".".join(location)
    if error["type"] == "extra_forbidden":
        section: type[BaseModel] = Recipe
        for part in location[:-1]:
            annotation = section.model_fields[part].annotation
            assert isinstance(annotation, type)
            section = annotation
        nearest = difflib.get_close_matches(location[-1], section.model_fields, n=1, cutoff=0)
        return f"Unknown recipe key {key!r}; did you mean {nearest[0]!r}?"
    if error["type"] == "missing":
        return f"The recipe lacks {key!r}; for half of the original's FLOPs write flops: 0.5."
    if key == "flops":
        return f"The budget flops: {error['input']!r} is impossible: it is a share between 0 and 1."
    return f"Recipe key {key!r} is wrong: {error['msg'].lower()}."
