"""Which models can be compressed, by `config.json` alone.

The compressor's families say the same, but importing them would load torch into every gateway; a test
holds the two to each other.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from compressor.checkpoint import ARCHITECTURE_PREFIX, read_config
from compressor.errors import CheckpointError
from service.errors import InvalidRequestError
from service.registry import ModelEntry


class _Family(NamedTuple):
    architecture: str
    description: str
    types: Mapping[str, tuple[str, ...]]
    """The model types that are known, by the section of the config; "" is the config itself."""


_KNOWN = (
    _Family(
        "LlavaForConditionalGeneration",
        "LlavaForConditionalGeneration (CLIP or SigLIP tower; Llama, Mistral or Qwen2 decoder)",
        {
            "vision_config": ("clip_vision_model", "siglip_vision_model"),
            "text_config": ("llama", "mistral", "qwen2"),
        },
    ),
    _Family(
        "Qwen2_5_VLForConditionalGeneration",
        "Qwen2_5_VLForConditionalGeneration",
        {"": ("qwen2_5_vl",)},
    ),
)
FAMILIES = tuple(family.description for family in _KNOWN)


def check_compressible(entry: ModelEntry) -> None:
    """Check that an original is of a known family, as far as this machine can tell.

    Raises:
        InvalidRequestError: it is not, or there is no checkpoint of it.
    """
    if not entry.path:
        raise InvalidRequestError(
            f"The model {entry.name!r} is served elsewhere and no checkpoint of it is known here, so "
            "it cannot be compressed; `infoprune models register` names one.",
            param="model",
        )
    if not (Path(entry.path) / "config.json").is_file():
        return  # the job may run on a machine that has it
    try:
        complaint = unsupported(read_config(Path(entry.path)))
    except CheckpointError as error:
        complaint = str(error)
    if complaint is not None:
        raise InvalidRequestError(
            f"The model {entry.name!r} cannot be compressed: {complaint}", param="model"
        )


def unsupported(config: Mapping[str, Any]) -> str | None:
    """Why no family knows a parsed `config.json`, in one sentence; None where one does. Pure."""
    found = [name.removeprefix(ARCHITECTURE_PREFIX) for name in config.get("architectures") or []]
    if any(family.architecture in found and _is_of(family, config) for family in _KNOWN):
        return None
    return (
        f"Architecture {', '.join(found) or 'unknown'} has no family; "
        f"supported: {', '.join(FAMILIES)}."
    )


def _is_of(family: _Family, config: Mapping[str, Any]) -> bool:
    sections = {name: config.get(name) if name else config for name in family.types}
    return isinstance(config.get("vision_feature_layer", -2), int) and all(
        isinstance(section, Mapping) and section.get("model_type") in family.types[name]
        for name, section in sections.items()
    )
