"""The recipe: what to compress towards, on which data. Unknown keys are refused by name."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from compressor.checkpoint import Layout, Tower
from compressor.errors import RecipeError

Target = Literal["flops", "params", "latency", "max_accuracy_drop"]
TARGETS: tuple[Target, ...] = get_args(Target)
Share = Annotated[float, Field(gt=0, lt=1)]
Datasets = Annotated[tuple[str, ...], Field(min_length=1)]


class Section(BaseModel):
    """Frozen, and no key that it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class Calibration(Section):
    """Data whose activations define what is information."""

    datasets: Datasets = ("easy-vqa",)
    """By name or path, as docs/datasets.md lists them; in equal parts."""
    samples: Annotated[int, Field(ge=8, le=100_000)] = 256
    """Questions of the datasets' training splits, each with its image."""


class Evaluation(Section):
    """Data on which original and compressed are compared."""

    datasets: Datasets = ("easy-vqa",)
    """By name or path, as docs/datasets.md lists them."""
    samples: Annotated[int, Field(ge=0)] = 200
    """Questions of each dataset's test split, drawn by the seed; 0 = no evaluation."""
    validation_samples: Annotated[int, Field(ge=50)] = 1000
    """Questions of each dataset's validation split that `max_accuracy_drop` is held against."""


class Scope(Section):
    """What may be compressed."""

    vision: bool = True
    """The vision tower."""
    projector: bool = True
    """What maps the tower's width to the language model's."""
    language: bool = True
    """The language model."""


class Training(Section):
    """The training-based scheme: hard-concrete gates on heads."""

    steps: Annotated[int, Field(ge=1)] = 200
    """Of the gates' training; no weight is trained."""
    learning_rate: Annotated[float, Field(gt=0)] = 0.1
    """Of the gates."""
    batch: Annotated[int, Field(ge=1)] = 16
    """Questions a step."""
    beta: Annotated[float, Field(ge=0)] = 0.01
    """Weight of the effective-rank redundancy."""
    gamma: Annotated[float, Field(ge=0)] = 0.1
    """Weight of the KS alignment."""


class Recovery(Section):
    """Training of the compressed model: L2 on the original's hidden states, and the task's loss."""

    steps: Annotated[int, Field(ge=0)] = 0
    """0 = none."""
    learning_rate: Annotated[float, Field(gt=0)] = 2e-4
    """Of the compressed model's weights, at its peak. Suits 500 steps and more, 1000 better."""
    batch: Annotated[int, Field(ge=1)] = 16
    """Questions a step."""
    samples: Annotated[int, Field(ge=8)] = 24_000
    """Questions of the calibration datasets' training splits to draw from; the more the better."""
    hidden_weight: Annotated[float, Field(ge=0)] = 1.0
    """Weight of the L2 on the final hidden states, relative to the original's energy."""
    layer_weight: Annotated[float, Field(ge=0)] = 1.0
    """Weight of the same behind every layer of the language model, at every position; the mean."""
    task_weight: Annotated[float, Field(ge=0)] = 0.3
    """Weight of the answers' cross-entropy; 0 keeps to the original, its mistakes included."""
    bf16: bool | None = None
    """Matrix products in bf16, weights in float32; null = where the machine has instructions for it."""


class Recipe(Section):
    """A compression recipe. Exactly one of the targets is given."""

    flops: Share | None = None
    """The share of the original's FLOPs before the first token (tower + projector + prefill)."""
    params: Share | None = None
    """The share of the original's parameters."""
    latency: Share | None = None
    """The share of the original's measured time of a reference request (`compressor/latency`)."""
    max_accuracy_drop: Annotated[float, Field(gt=0, lt=1)] | None = None
    """The smallest model that, at 95 % confidence, loses at most this much accuracy (0.005 = half a
    point), on the mean of the evaluation datasets' validation splits."""
    new_tokens: Annotated[int, Field(ge=1, le=4096)] = 16
    """Tokens of the answer in the reference request, whose time `latency` and reports are about."""
    scheme: Literal["training-free", "trained"] = "training-free"
    """`trained`: hard-concrete gates choose the heads (`compressor/gates.py`)."""
    layout: Layout = "adaptive"
    """`uniform`: the same shape in every layer of a tower, no ranks; loads without this package."""
    scope: Scope = Scope()
    low_rank_attention: bool = True
    """Attention's matrices may be factored too. `false` cuts attention by whole heads only, so that the
    KV cache and its reading shrink with it, at some cost in accuracy."""
    calibration: Calibration = Calibration()
    evaluation: Evaluation = Evaluation()
    training: Training = Training()
    recovery: Recovery = Recovery()
    allocation: Literal["greedy", "exact"] = "greedy"
    """`exact`: a knapsack by dynamic programming."""
    round_to: Annotated[int, Field(ge=1, le=256)] = 16
    """Ranks and widths are multiples of this: 16 suits CPUs, 64 suits GPUs."""
    ridge: Annotated[float, Field(gt=0)] = 1e-4
    """Ridge of the least-squares compensation, relative to the mean variance of its inputs; a very
    large one leaves what is kept as it was."""
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    """Of every draw."""

    @property
    def target(self) -> tuple[Target, float]:
        """The one target that is given, and its value."""
        return next((name, value) for name in TARGETS if (value := getattr(self, name)) is not None)

    @property
    def towers(self) -> tuple[Tower, ...]:
        """What may be compressed."""
        return tuple(name for name in get_args(Tower) if getattr(self.scope, name))

    def recovered(self, steps: int) -> Recipe:
        """The same with so many steps of recovery; keys that were not given stay so."""
        return self.model_copy(
            update={"recovery": self.recovery.model_copy(update={"steps": steps})}
        )


def parse_recipe(content: object) -> Recipe:
    """Check a recipe that was read from JSON or YAML.

    Raises:
        RecipeError: with one sentence that names the key and, for an unknown one, the nearest.
    """
    if not isinstance(content, Mapping):
        raise RecipeError("A recipe is an object of keys and values, such as {flops: 0.5}.")
    try:
        recipe = Recipe.model_validate(content)
    except ValidationError as error:
        # An unknown key explains a missing one: it comes first.
        errors = sorted(error.errors(), key=lambda e: e["type"] != "extra_forbidden")
        raise RecipeError(_sentence(errors[0])) from error
    given = [name for name in TARGETS if getattr(recipe, name) is not None]
    if not given:
        raise RecipeError(
            f"The recipe lacks a target, one of {', '.join(TARGETS)}; "
            "for half of the original's FLOPs write flops: 0.5."
        )
    if len(given) > 1:
        raise RecipeError(f"The recipe has {' and '.join(given)}; give exactly one target.")
    if not recipe.towers:
        raise RecipeError("The recipe's scope leaves nothing to compress; switch a tower on.")
    return recipe


def read_recipe(source: str) -> Recipe:
    """A recipe from a YAML or JSON file, or written inline: `flops: 0.5`.

    Raises:
        RecipeError: the file is missing or not a recipe.
    """
    path = Path(source)
    is_file = _is_file(path)
    inline = ":" in source and not is_file
    if not inline and not is_file:
        raise RecipeError(
            f"There is no recipe file {source!r}; one may be given inline: 'flops: 0.5'."
        )
    try:
        content = yaml.safe_load(source if inline else path.read_text())
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        hint = "; several keys on one line need braces: {flops: 0.5, seed: 1}" if inline else ""
        raise RecipeError(f"Recipe {source!r} is neither YAML nor JSON{hint}.") from error
    return parse_recipe(content)


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a recipe written inline may be longer than any file's name
        return False


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
    if location[0] in TARGETS:
        return f"The target {key}: {error['input']!r} is impossible: it is a share between 0 and 1."
    return f"Recipe key {key!r} is wrong: {error['msg'].lower()}."
