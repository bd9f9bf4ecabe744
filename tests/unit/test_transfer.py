"""Checkpoints to a store and back, on fsspec's local and memory file systems."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest

from compressor.checkpoint import MANIFEST, sha256_of, verify, writing
from compressor.errors import CheckpointError
from service.jobs.transfer import fetch_model, get_directory, put_directory, store_model
from service.settings import Settings
from service.workers.fetcher import Fetcher
from tests.support.registry import model

WEIGHTS = (2).to_bytes(8, "little") + b"{}"  # a safetensors file without tensors


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    target = tmp_path / "made" / "small"
    with writing(target) as directory:
        (directory / "config.json").write_text("{}")
        (directory / "model.safetensors").write_bytes(WEIGHTS)
        (directory / "report").mkdir()
        (directory / "report" / "picture.svg").write_text("<svg/>")
    return target


@pytest.fixture(params=["memory", "file"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "file":
        yield f"file://{tmp_path}/store"
        return
    yield "memory://infoprune-test"
    memory = fsspec.filesystem("memory")
    if memory.exists("/infoprune-test"):
        memory.rm("/infoprune-test", recursive=True)


def digests(directory: Path) -> dict[str, str]:
    return {
        str(p.relative_to(directory)): sha256_of(p) for p in directory.rglob("*") if p.is_file()
    }


def test_what_comes_back_is_what_was_put(checkpoint: Path, store: str, tmp_path: Path) -> None:
    location = store_model(checkpoint, store + "/")
    assert location == f"{store}/small"
    get_directory(location, tmp_path / "back")
    assert digests(tmp_path / "back") == digests(checkpoint)


def test_a_file_that_was_torn_on_its_way_is_never_served(
    checkpoint: Path, store: str, tmp_path: Path
) -> None:
    put_directory(checkpoint, f"{store}/small")
    system, root = fsspec.core.url_to_fs(f"{store}/small")
    system.pipe_file(f"{root}/model.safetensors", WEIGHTS[:-1])
    with pytest.raises(CheckpointError, match="differs from its manifest"):
        get_directory(f"{store}/small", tmp_path / "back")
    assert sorted(p.name for p in tmp_path.iterdir() if "back" in p.name) == []


def test_a_checkpoint_without_its_manifest_is_not_there(
    checkpoint: Path, store: str, tmp_path: Path
) -> None:
    put_directory(checkpoint, f"{store}/small")
    system, root = fsspec.core.url_to_fs(f"{store}/small")
    system.rm(f"{root}/{MANIFEST}")
    with pytest.raises(CheckpointError, match="no whole checkpoint"):
        get_directory(f"{store}/small", tmp_path / "back")


def test_only_a_whole_checkpoint_is_put(checkpoint: Path, store: str) -> None:
    (checkpoint / MANIFEST).unlink()
    with pytest.raises(CheckpointError, match="only whole exports"):
        put_directory(checkpoint, f"{store}/small")


def test_an_unknown_store_is_refused_in_one_sentence(checkpoint: Path) -> None:
    with pytest.raises(CheckpointError, match="cannot be written"):
        put_directory(checkpoint, "nowhere://bucket/small")


def test_a_machine_fetches_what_another_made(checkpoint: Path, store: str, tmp_path: Path) -> None:
    settings = Settings(run_dir=tmp_path / "run")
    settings.models_dir.mkdir(parents=True)
    entry = model("small", path="/elsewhere/small", location=store_model(checkpoint, store))
    fetcher = Fetcher(settings)

    assert fetcher.here({"small": entry}) == {}, "it is on its way"
    for thread in threading.enumerate():
        if thread.name == "fetch":
            thread.join()

    local = settings.models_dir.resolve() / "small"
    assert fetcher.here({"small": entry})["small"].path == str(local)
    verify(local)
    assert fetch_model(entry, settings) == local, "not fetched again"


def test_a_model_that_lies_here_is_used_where_it_lies(checkpoint: Path, tmp_path: Path) -> None:
    settings = Settings(run_dir=tmp_path / "run")
    here = model("small", path=str(checkpoint), location="memory://none")
    plain = model("tiny", path="/nowhere")
    found = Fetcher(settings).here({"small": here, "tiny": plain})
    assert found == {"small": here, "tiny": plain}
