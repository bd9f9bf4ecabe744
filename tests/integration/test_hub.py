"""Models of the Hugging Face hub, here a fake: only those allowed, only what is safe to read."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from redis import Redis

from service.registry import Registry
from service.settings import Settings
from tests.support.hub import COMMIT, Hub, hub_within
from tests.support.random_vlm import write_random_llava
from tests.support.servers import ROOT

Done = subprocess.CompletedProcess[str]


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    directory = tmp_path / "hub"
    write_random_llava(directory)
    (directory / "pytorch_model.bin").write_bytes(b"a pickle")
    (directory / "modeling_own.py").write_text("raise SystemExit('code of the repository ran')\n")
    with hub_within("lab/tiny", directory) as found:
        yield found


@pytest.fixture
def register(hub: Hub, settings: Settings, tmp_path: Path) -> Callable[..., Done]:
    """Runs `infoprune models register MODEL` with hub models that are allowed."""

    def run(model: str, *, allowed: tuple[str, ...] = ("lab/tiny",)) -> Done:
        environment = os.environ | settings.to_environment(settings.require_redis_url()) | {
            "HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "cache"), "PYTHONPATH": str(ROOT),
            "INFOPRUNE_HUB_MODELS": json.dumps(allowed),
        }  # fmt: skip
        command = [sys.executable, "-m", "service.cli", "models", "register", model]
        return subprocess.run(
            command, env=environment, capture_output=True, text=True, check=False, cwd=tmp_path
        )

    return run


def test_an_allowed_model_is_fetched_without_pickles_and_code(
    register: Callable[..., Done], hub: Hub, redis: Redis, tmp_path: Path
) -> None:
    done = register("lab/tiny")
    assert (done.returncode, done.stdout) == (0, "Registered tiny.\n")
    entry = Registry(redis).snapshot().models["tiny"]
    assert Path(entry.path).is_relative_to(tmp_path / "cache")
    there = {p.name for p in Path(entry.path).iterdir()}
    assert "model.safetensors" in there
    assert not {"pytorch_model.bin", "modeling_own.py"} & (there | hub.fetched)


def test_what_was_fetched_is_not_fetched_again(register: Callable[..., Done], hub: Hub) -> None:
    register(f"lab/tiny@{COMMIT}")
    hub.fetched.clear()
    assert register(f"lab/tiny@{COMMIT}").returncode == 0
    assert hub.fetched == set()


@pytest.mark.parametrize(
    ("model", "allowed", "sentence"),
    [
        ("lab/tiny", (), "There is no directory 'lab/tiny', and the hub's model 'lab/tiny' is not "
         "allowed; INFOPRUNE_HUB_MODELS='[\"lab/tiny\"]' allows it."),
        ("lab/tiny", ("lab/other",), "is not allowed"),
        ("lab/gone", ("lab/gone",), "The hub has no model 'lab/gone', or HF_TOKEN does not open it."),
        ("lab/tiny@v9", ("lab/tiny",), "The hub's model 'lab/tiny' has no revision 'v9'."),
    ],
)  # fmt: skip
def test_anything_else_is_refused_in_one_sentence(
    register: Callable[..., Done], hub: Hub, redis: Redis, model: str, allowed: tuple[str, ...],
    sentence: str,
) -> None:  # fmt: skip
    done = register(model, allowed=allowed)
    assert done.returncode == 1
    assert sentence in done.stderr
    assert done.stderr.count("\n") == 1
    assert hub.fetched == set()
    assert Registry(redis).snapshot().models == {}
