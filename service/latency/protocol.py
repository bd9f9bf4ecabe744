"""What is said between a measuring process and who started it: JSON in files."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Event = tuple[int, float]
"""(tokens in the step, 0 outside the language model; seconds)."""


class Message(BaseModel):
    """Frozen, and no key that it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class EngineSettings(Message):
    """How the engine is started."""

    model: str
    dtype: str
    max_model_len: int
    max_num_seqs: int = 1
    max_num_batched_tokens: int = 4096
    memory_share: float | None = None
    """Of a GPU's memory; None = the engine's default."""
    load_format: str = "auto"
    """`dummy` = random weights, for which `config.json` is enough."""
    decode_graphs: bool = False
    """Decode steps as CUDA graphs: they run as a server's do, but no module in them can be timed."""
    seed: int = 0


class Workload(Message):
    """Requests that are answered together, some times over."""

    prompt: tuple[int, ...]
    """Token ids; the image's placeholder once where there is an image."""
    image_size: tuple[int, int] | None
    """Of random pixels, new in every request, so that no cache answers; None = text alone."""
    new_tokens: Annotated[int, Field(ge=1)]
    batch: Annotated[int, Field(ge=1)] = 1
    warmups: int = 1
    repeats: Annotated[int, Field(ge=1)] = 5
    timed: bool = False
    """Whether modules are timed; the hooks cost some microseconds a module."""


class ProjectorWork(Message):
    """Projectors to build beside the model and to time on random activations."""

    shapes: tuple[str, ...]
    """JSON of `LayerShape`."""
    positions: int
    repeats: int = 20


class Command(Message):
    """One order to a measuring process."""

    workload: Workload | None = None
    projector: ProjectorWork | None = None


class Run(Message):
    """One time that a workload was answered."""

    seconds: float
    """By the clock of the engine's caller: processor, engine, sampling and all."""
    events: dict[str, list[Event]] = {}
    """By module: `TOWER/LAYER/attention`, `.../ffn`, `.../whole`, `patches`, `logits`."""
    prompt_tokens: int
    """Of each request, the visual ones among them."""


class Answer(Message):
    """What a command found."""

    runs: tuple[Run, ...] = ()
    projector_s: tuple[float, ...] = ()
    """Median seconds of each shape."""
