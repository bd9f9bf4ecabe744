"""The gateway's list of families says what the compressor's families say."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from compressor.errors import UnsupportedArchitectureError
from compressor.families import FAMILIES as KNOWN
from compressor.families import family_of
from models.training.architecture import build_tokenizer
from service.errors import InvalidRequestError
from service.gateway.families import FAMILIES, check_compressible, unsupported
from tests.support.random_vlm import KINDS, Kind, random_config
from tests.support.registry import model
from tests.unit.test_families import llava_config

QWEN = {"architectures": ["Qwen2_5_VLForConditionalGeneration"], "model_type": "qwen2_5_vl"}
LLAVA = ["LlavaForConditionalGeneration"]


def refused_by_compressor(config: dict[str, Any]) -> str | None:
    try:
        family_of(config)
    except UnsupportedArchitectureError as error:
        return str(error)
    return None


def test_the_families_are_the_compressors() -> None:
    assert tuple(family.description for family in KNOWN) == FAMILIES


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_that_the_compressor_knows_is_taken(kind: Kind) -> None:
    config = random_config(kind, build_tokenizer())
    assert unsupported(config) is None
    assert refused_by_compressor(config) is None


@pytest.mark.parametrize(
    "config",
    [
        llava_config(architectures=["InfoPruneLlavaForConditionalGeneration"]),
        llava_config(architectures=["GPT2LMHeadModel"]),
        llava_config(architectures=[]),
        llava_config(architectures=QWEN["architectures"]),
        llava_config(vision_config={"model_type": "pixtral"}),
        llava_config(text_config={"model_type": "gemma"}),
        llava_config(vision_feature_layer=[-2, -1]),
        {"architectures": LLAVA},
        QWEN,
        {**QWEN, "model_type": "qwen2_vl"},
        {"architectures": LLAVA, "model_type": "qwen2_5_vl"},
        {},
    ],
)
def test_a_config_is_judged_as_the_compressor_does_in_the_same_sentence(
    config: dict[str, Any],
) -> None:
    assert unsupported(config) == refused_by_compressor(config)


@pytest.mark.parametrize("config", [{"vision_config": [1]}, {"text_config": None}])
def test_a_config_that_is_no_config_is_refused(config: dict[str, Any]) -> None:
    assert "has no family" in (unsupported({"architectures": LLAVA, **config}) or "")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (json.dumps({"architectures": ["GPT2LMHeadModel"]}), "Architecture GPT2LMHeadModel has no"),
        ("{", "is not valid JSON"),
    ],
)
def test_a_model_that_cannot_be_compressed_is_named(
    tmp_path: Path, content: str, said: str
) -> None:
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(InvalidRequestError, match=said) as refused:
        check_compressible(model("tiny", path=str(tmp_path)))
    assert str(refused.value).startswith("The model 'tiny' cannot be compressed: ")


def test_a_model_of_another_machine_is_left_to_the_job_and_one_without_files_is_not() -> None:
    check_compressible(model("tiny", path="/nowhere"))
    with pytest.raises(InvalidRequestError, match="no checkpoint of it is known here"):
        check_compressible(model("tiny", path=""))


def test_a_gateway_that_judges_models_does_not_load_torch() -> None:
    program = "import sys, service.gateway.recipes; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
