from __future__ import annotations

from typing import Any

import pytest

from compressor.errors import UnsupportedArchitectureError
from compressor.families import family_of
from models.training.architecture import build_config, build_tokenizer


def llava_config(**changes: Any) -> dict[str, Any]:
    content = build_config(build_tokenizer()).to_dict()
    return content | {"architectures": ["LlavaForConditionalGeneration"]} | changes


def test_an_original_and_its_compressed_model_have_one_family() -> None:
    original = family_of(llava_config())
    assert family_of(llava_config(architectures=["InfoPruneLlavaForConditionalGeneration"])) is (
        original
    )


@pytest.mark.parametrize(
    "changes",
    [
        {"architectures": ["GPT2LMHeadModel"]},
        {"architectures": []},
        {"vision_config": {"model_type": "pixtral"}},
        {"text_config": {"model_type": "gemma"}},
    ],
)
def test_an_unknown_architecture_is_told_what_is_supported(changes: dict[str, Any]) -> None:
    with pytest.raises(UnsupportedArchitectureError, match="supported: LlavaForConditional"):
        family_of(llava_config(**changes))


@pytest.mark.parametrize(("feature_layer", "used"), [(-2, 8), (-1, 9), (3, 3)])
def test_layers_behind_the_feature_layer_are_not_used(feature_layer: int, used: int) -> None:
    config = llava_config(vision_feature_layer=feature_layer)
    vision, _, language = family_of(config).towers(config)
    assert vision.used_layers == used
    assert language.used_layers == 8


def test_hub_names_are_those_of_published_checkpoints() -> None:
    family = family_of(llava_config())
    names = {
        "model.vision_tower.encoder.layers.0.mlp.fc1.weight": (
            "vision_tower.vision_model.encoder.layers.0.mlp.fc1.weight"
        ),
        "model.language_model.layers.1.mlp.up_proj.weight": (
            "language_model.model.layers.1.mlp.up_proj.weight"
        ),
        "model.multi_modal_projector.linear_1.bias": "multi_modal_projector.linear_1.bias",
        "lm_head.weight": "language_model.lm_head.weight",
    }
    assert {name: family.hub_name(name) for name in names} == names
