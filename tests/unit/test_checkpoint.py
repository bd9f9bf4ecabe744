from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from compressor.checkpoint import MANIFEST, Compression, factor_names, verify, writing
from compressor.errors import CheckpointError


def write_model(directory: Path) -> Path:
    with writing(directory) as place:
        (place / "config.json").write_text('{"architectures": ["Any"]}')
        save_file({"w": torch.arange(8.0)}, place / "model.safetensors")
    return directory


def test_what_was_written_is_whole_and_readable_by_others(tmp_path: Path) -> None:
    model = write_model(tmp_path / "model")

    verify(model)
    assert (model / "model.safetensors").stat().st_mode & 0o777 == 0o644
    assert list(tmp_path.iterdir()) == [model]


def test_nothing_is_left_of_an_export_that_fails(tmp_path: Path) -> None:
    def fail() -> None:
        with writing(tmp_path / "model") as place:
            (place / "config.json").write_text("{}")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert list(tmp_path.iterdir()) == []


def test_a_failed_export_leaves_the_model_that_was_there(tmp_path: Path) -> None:
    model = write_model(tmp_path / "model")
    with pytest.raises(ZeroDivisionError), writing(model):
        raise ZeroDivisionError
    verify(model)


def test_a_model_is_replaced_but_nothing_else_is(tmp_path: Path) -> None:
    model = write_model(tmp_path / "model")
    (model / "extra").write_text("of the first")
    write_model(model)
    assert not (model / "extra").exists()

    home = tmp_path / "home"
    home.mkdir()
    (home / "thesis.txt").write_text("precious")
    with pytest.raises(CheckpointError, match="is not a model written by infoprune"):
        write_model(home)
    assert (home / "thesis.txt").read_text() == "precious"


def test_a_truncated_checkpoint_is_refused(tmp_path: Path) -> None:
    model = write_model(tmp_path / "model")
    weights = model / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-4])

    with pytest.raises(CheckpointError, match="differs from its manifest"):
        verify(model)
    # A hub checkpoint has no manifest: its header gives it away.
    (model / MANIFEST).unlink()
    with pytest.raises(CheckpointError, match="is truncated"):
        verify(model)


def test_an_altered_or_missing_file_is_refused(tmp_path: Path) -> None:
    model = write_model(tmp_path / "model")
    (model / "config.json").write_text('{"architectures": ["Other"]}')
    with pytest.raises(CheckpointError, match=r"config\.json .* differs from its manifest"):
        verify(model)

    model = write_model(tmp_path / "second")
    with writing(model) as place:
        (place / "config.json").write_text("{}")
        (place / "vocab.txt").write_text("a")
        save_file({"w": torch.zeros(1)}, place / "model.safetensors")
    (model / "vocab.txt").unlink()
    with pytest.raises(CheckpointError, match=r"vocab\.txt is missing"):
        verify(model)


def test_files_in_folders_are_under_the_manifest(tmp_path: Path) -> None:
    with writing(tmp_path / "model") as place:
        (place / "config.json").write_text("{}")
        save_file({"w": torch.zeros(1)}, place / "model.safetensors")
        (place / "report").mkdir()
        (place / "report" / "index.html").write_text("page")
        (place / "report" / MANIFEST).write_text("another's")
    model = tmp_path / "model"
    listed = json.loads((model / MANIFEST).read_text())["files"]
    assert {"report/index.html", f"report/{MANIFEST}"} <= listed.keys()
    verify(model)

    (model / "report" / "index.html").write_text("other")
    with pytest.raises(CheckpointError, match=r"report/index\.html .* differs from its manifest"):
        verify(model)


def test_weights_that_the_manifest_does_not_list_are_refused(tmp_path: Path) -> None:
    model = write_model(tmp_path / "model")
    save_file({"w": torch.zeros(8)}, model / "z.safetensors")
    with pytest.raises(CheckpointError, match=r"z\.safetensors .* is not in its manifest"):
        verify(model)


@pytest.mark.parametrize("name", ["../secret", "/etc/hostname", "report/../../secret"])
def test_a_manifest_that_names_a_file_outside_is_refused(name: str, tmp_path: Path) -> None:
    model = write_model(tmp_path / "model")
    content = json.loads((model / MANIFEST).read_text())
    content["files"][name] = {"sha256": "0" * 64, "bytes": 1}
    (model / MANIFEST).write_text(json.dumps(content))
    with pytest.raises(CheckpointError, match="names a file outside"):
        verify(model)


def test_a_model_of_links_as_download_caches_keep_it_is_whole(tmp_path: Path) -> None:
    model, linked = write_model(tmp_path / "blobs"), tmp_path / "snapshot"
    linked.mkdir()
    for path in model.iterdir():
        (linked / path.name).symlink_to(path)
    verify(linked)


def test_pickled_weights_are_refused_before_they_can_run(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "pytorch_model.bin").write_bytes(b"anything")
    with pytest.raises(CheckpointError, match="pickled weights"):
        verify(tmp_path)


def test_a_compressed_model_without_a_manifest_was_cut_short(tmp_path: Path) -> None:
    model = write_model(tmp_path / "model")
    (model / MANIFEST).unlink()
    (model / "config.json").write_text('{"compression": {}}')
    with pytest.raises(CheckpointError, match="cut short"):
        verify(model)


@pytest.mark.parametrize(
    ("config", "sentence"),
    [(None, "no config.json"), ("{", "not valid JSON"), ("[]", "not a JSON object")],
)
def test_a_directory_without_a_readable_config_is_no_model(
    config: str | None, sentence: str, tmp_path: Path
) -> None:
    if config is not None:
        (tmp_path / "config.json").write_text(config)
    with pytest.raises(CheckpointError, match=sentence):
        verify(tmp_path)


def test_a_newer_format_asks_for_an_update() -> None:
    section = Compression(
        format_version=99, plan_sha256="", original_architectures=("X",), towers={}
    )
    config = {"compression": json.loads(section.model_dump_json())}
    with pytest.raises(CheckpointError, match="update infoprune"):
        Compression.of_config(config)
    with pytest.raises(CheckpointError, match="malformed at 'plan_sha256'"):
        Compression.of_config({"compression": {"towers": {}, "original_architectures": []}})


@pytest.mark.parametrize("linear", ["fc1", "gate_proj", "up_proj", "down_proj"])
def test_factor_names_hold_no_name_that_vllm_renames(linear: str) -> None:
    for name in factor_names(linear):
        assert ".gate_proj" not in f".{name}"
        assert ".up_proj" not in f".{name}"
