"""Families: the only code that knows an architecture's names. One file a family."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from compressor.checkpoint import ARCHITECTURE_PREFIX
from compressor.errors import UnsupportedArchitectureError
from compressor.families.base import Family, FixedFlops, TowerSpec, leaf
from compressor.families.llava import LlavaFamily
from compressor.families.qwen2_5_vl import Qwen25VLFamily

__all__ = ["FAMILIES", "Family", "FixedFlops", "TowerSpec", "family_of", "leaf"]

FAMILIES: tuple[Family, ...] = (LlavaFamily(), Qwen25VLFamily())


def family_of(config: Mapping[str, Any]) -> Family:
    """The family of a parsed `config.json`, original or compressed.

    Raises:
        UnsupportedArchitectureError: none knows it; the message names those that are supported.
    """
    found = [name.removeprefix(ARCHITECTURE_PREFIX) for name in config.get("architectures") or []]
    for family in FAMILIES:
        if family.supports(config) and family.architecture in found:
            return family
    supported = ", ".join(family.description for family in FAMILIES)
    raise UnsupportedArchitectureError(
        f"Architecture {', '.join(found) or 'unknown'} has no family; supported: {supported}."
    )
