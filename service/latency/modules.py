"""Where the timed modules are in vLLM's models."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from torch import nn

from compressor.errors import LatencyError


@dataclass(frozen=True)
class Parts:
    """The modules of a vision-language model in vLLM whose times are looked at."""

    patches: nn.Module
    vision: tuple[nn.Module, ...]
    """Layers."""
    vision_attention: str
    """The name of a layer's attention; its FFN is `mlp` everywhere."""
    projector: nn.Module
    linears: nn.Module
    """What holds the projector's two linears."""
    linear_names: tuple[str, str]
    projector_reads: int
    """Width of what the projector reads."""
    rows_a_token: int
    """Rows of that for one visual token."""
    language: tuple[nn.Module, ...]
    """Layers."""
    logits: nn.Module

    def named(self) -> Iterator[tuple[str, nn.Module]]:
        """Every module with the name that its times get."""
        yield "patches", self.patches
        yield "projector/0/whole", self.projector
        yield "logits", self.logits
        for tower, attention, layers in (
            ("vision", self.vision_attention, self.vision),
            ("language", "self_attn", self.language),
        ):
            for index, layer in enumerate(layers):
                yield f"{tower}/{index}/attention", getattr(layer, attention)
                yield f"{tower}/{index}/ffn", layer.get_submodule("mlp")
                yield f"{tower}/{index}/whole", layer


def parts_of(model: Any) -> Parts:
    """The parts of a LLaVA or a Qwen2.5-VL.

    Raises:
        LatencyError: it is another model.
    """
    decoder = {
        "language": tuple(model.language_model.model.layers),
        "logits": model.language_model.logits_processor,
    }
    tower = getattr(getattr(model, "vision_tower", None), "vision_model", None)
    if tower is not None:
        return Parts(
            patches=tower.embeddings,
            vision=tuple(tower.encoder.layers),
            vision_attention="self_attn",
            projector=model.multi_modal_projector,
            linears=model.multi_modal_projector,
            linear_names=("linear_1", "linear_2"),
            projector_reads=model.config.vision_config.hidden_size,
            rows_a_token=1,
            **decoder,
        )
    visual = getattr(model, "visual", None)
    if visual is not None and hasattr(visual, "merger"):
        config = model.config.vision_config
        return Parts(
            patches=visual.patch_embed,
            vision=tuple(visual.blocks),
            vision_attention="attn",
            projector=visual.merger,
            linears=visual.merger.mlp,
            linear_names=("0", "2"),
            projector_reads=config.hidden_size,
            rows_a_token=config.spatial_merge_size**2,
            **decoder,
        )
    raise LatencyError(f"The layers of {type(model).__name__} cannot be timed.")
