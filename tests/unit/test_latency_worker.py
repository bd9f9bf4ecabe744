from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from compressor.errors import LatencyError
from service.latency.modules import Parts, parts_of
from service.latency.worker import ModuleTimer

WIDTH = 4


class Layer(nn.Module):
    """Called as vLLM calls its layers: positions first; `__call__` goes round PyTorch's hooks."""

    def __init__(self) -> None:
        super().__init__()
        self.self_attn, self.mlp = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.forward(*args, **kwargs)

    def forward(self, positions: Tensor, hidden_states: Tensor) -> Tensor:
        output: Tensor = self.mlp(self.self_attn(hidden_states))
        return output


def model() -> Any:
    """Modules where vLLM's LLaVA has them."""
    tower = SimpleNamespace(
        embeddings=nn.Linear(WIDTH, WIDTH), encoder=SimpleNamespace(layers=[Layer()])
    )
    language = SimpleNamespace(
        model=SimpleNamespace(layers=[Layer(), Layer()]), logits_processor=nn.Linear(WIDTH, 9)
    )
    vision_config = SimpleNamespace(hidden_size=WIDTH)
    return SimpleNamespace(
        vision_tower=SimpleNamespace(vision_model=tower),
        multi_modal_projector=nn.Linear(WIDTH, WIDTH),
        language_model=language,
        config=SimpleNamespace(vision_config=vision_config),
    )


def step(parts: Parts, tokens: int) -> Tensor:
    """A step of the language model for so many tokens, and the logits of the last."""
    x = torch.ones(tokens, WIDTH)
    for layer in parts.language:
        x = layer(torch.arange(tokens), hidden_states=x)
    logits: Tensor = parts.logits(x[-1:])
    return logits


def test_every_part_of_a_layer_is_seen_with_the_tokens_of_its_step() -> None:
    parts = parts_of(model())
    timer = ModuleTimer(parts, torch.device("cpu"))
    parts.vision[0](torch.arange(3), torch.ones(3, WIDTH))
    step(parts, 7)
    step(parts, 1)

    found = timer.collect()

    tokens = {name: [count for count, _ in events] for name, events in found.items()}
    assert tokens["language/1/attention"] == [7, 1]
    assert tokens["language/1/whole"] == [7, 1]
    assert tokens["logits"] == [7, 1]
    assert tokens["vision/0/ffn"] == [0]
    assert "projector/0/whole" not in tokens
    first = {part: found[f"language/0/{part}"][0][1] for part in ("whole", "attention", "ffn")}
    assert first["whole"] >= first["attention"] + first["ffn"] > 0
    assert timer.collect() == {}


def test_timing_changes_no_output_and_leaves_nothing_behind() -> None:
    parts = parts_of(model())
    before = step(parts, 5)

    timer = ModuleTimer(parts, torch.device("cpu"))
    during = step(parts, 5)
    timer.collect()
    timer.remove()
    after = step(parts, 5)

    assert torch.equal(before, during)
    assert torch.equal(before, after)
    assert timer.collect() == {}
    assert "forward" not in vars(parts.language[0])


def test_a_model_with_other_parts_is_refused() -> None:
    language = model().language_model
    with pytest.raises(LatencyError, match="SimpleNamespace cannot be timed"):
        parts_of(SimpleNamespace(language_model=language))
