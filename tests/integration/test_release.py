"""What `make release` makes, and that it installs and runs where no checkout is."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from deploy.decisions import extra_pins, project_name
from deploy.release import SUMS, release, without_tools
from tests.support.bare_environment import BareEnvironment, bare_environment
from tests.support.random_vlm import write_random_llava

ROOT = Path(__file__).resolve().parents[2]
PYPROJECT = (ROOT / "pyproject.toml").read_text()
DEPLOYMENT = (ROOT / "docs" / "deployment.md").read_text()
RECIPE = "{flops: 0.5, calibration: {samples: 16}, evaluation: {samples: 4}, round_to: 4}"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The release's files by what they are."""
    paths = release(tmp_path_factory.mktemp("dist"))
    return dict(zip(("sdist", "wheel", "sbom", "sums"), paths, strict=True))


@pytest.fixture(scope="module")
def installed(made: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> BareEnvironment:
    """An environment of its own that has the wheel, with this one's third parties."""
    venv = tmp_path_factory.mktemp("installed") / "venv"
    bare = bare_environment(venv)
    # The wheel brings the start-up hook that stands alone in an environment without us.
    next(venv.glob("lib/python3.*/site-packages/sitecustomize.py")).unlink()
    command = [
        sys.executable, "-m", "pip", "--python", str(bare.python), "install", "--no-deps",
        "--no-index", "--quiet", str(made["wheel"]),
    ]  # fmt: skip
    subprocess.run(command, check=True, env=bare.variables)
    return bare


def infoprune(
    bare: BareEnvironment, where: Path, *arguments: object
) -> subprocess.CompletedProcess[str]:
    command = [str(bare.python.parent / "infoprune"), *map(str, arguments)]
    environment = bare.variables | {"COLUMNS": "200"}
    return subprocess.run(
        command, cwd=where, env=environment, capture_output=True, text=True, check=False
    )


def test_both_hold_all_tracked_files_of_the_packages_licence_and_changes(
    made: dict[str, Path],
) -> None:
    listed = ["git", "ls-files", "-z", "compressor", "service"]
    names = subprocess.run(listed, cwd=ROOT, capture_output=True, check=True, text=True).stdout
    tracked = {name for name in names.split("\0") if name and (ROOT / name).exists()}
    with zipfile.ZipFile(made["wheel"]) as wheel:
        inside = set(wheel.namelist())
    assert tracked <= inside
    assert {"service/CHANGELOG.md", "infoprune_torchvision.pth"} <= inside
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in inside)
    top = {name.partition("/")[0] for name in inside if ".dist-info/" not in name}
    assert top == {"compressor", "service", "infoprune_torchvision.pth"}
    with tarfile.open(made["sdist"]) as sdist:
        inside = {name.partition("/")[2] for name in sdist.getnames()}
    assert tracked <= inside
    assert {"LICENSE", "CHANGELOG.md", "README.md", "pyproject.toml", "PKG-INFO"} <= inside


def test_the_checksums_are_right(made: dict[str, Path]) -> None:
    lines = made["sums"].read_text().splitlines()
    assert made["sums"].name == SUMS
    sums = {line.split("  ")[1]: line.split("  ")[0] for line in lines}
    assert set(sums) == {made[kind].name for kind in ("sdist", "wheel", "sbom")}
    for kind in ("sdist", "wheel", "sbom"):
        assert hashlib.sha256(made[kind].read_bytes()).hexdigest() == sums[made[kind].name]


def test_the_sbom_names_what_is_shipped_and_not_the_tools(made: dict[str, Path]) -> None:
    content = json.loads(made["sbom"].read_text())
    assert content["bomFormat"] == "CycloneDX"
    assert project_name(content["metadata"]["component"]["name"]) == "infoprune"
    names = {project_name(c["name"]): c for c in content["components"]}
    assert {"torch", "transformers", "redis", "starlette", "markupsafe"} <= set(names)
    assert not {"pytest", "ruff", "mypy", "twine", "hypothesis", "schemathesis"} & set(names)
    assert names["redis"]["version"]
    assert names["redis"]["purl"].startswith("pkg:pypi/redis@")


def test_an_sbom_keeps_only_what_is_wanted() -> None:
    sbom = {
        "metadata": {"component": {"bom-ref": "root", "name": "us"}},
        "components": [{"name": "A_b", "bom-ref": "a"}, {"name": "tool", "bom-ref": "t"}],
        "dependencies": [{"ref": "root", "dependsOn": ["a", "t"]}, {"ref": "t"}, {"ref": "a"}],
    }
    kept = without_tools(sbom, {"a-b"})
    assert kept["components"] == [{"name": "A_b", "bom-ref": "a"}]
    assert kept["dependencies"] == [
        {"ref": "root", "dependsOn": ["a"]},
        {"ref": "a", "dependsOn": []},
    ]


def test_the_wheel_runs_where_no_checkout_is(
    made: dict[str, Path], installed: BareEnvironment, tmp_path: Path
) -> None:
    version = made["wheel"].name.split("-")[1]
    assert made["sdist"].name == f"infoprune-{version}.tar.gz"
    told = infoprune(installed, tmp_path, "--version")
    assert (told.returncode, told.stdout.strip()) == (0, version), told.stderr
    helped = infoprune(installed, tmp_path, "serve", "--help")
    assert helped.returncode == 0
    assert "--no-auth" in helped.stdout
    place = "import compressor, service; print(compressor.__file__, service.__file__)"
    command = [str(installed.python), "-c", place]
    found = subprocess.run(
        command, cwd=tmp_path, env=installed.variables, capture_output=True, text=True, check=True
    )
    assert found.stdout.count(str(installed.python.parent.parent)) == 2


@pytest.mark.timeout(600)  # torch and transformers are loaded through links, from a cold cache
def test_the_wheel_compresses_where_no_checkout_is(
    installed: BareEnvironment, tmp_path: Path
) -> None:
    write_random_llava(tmp_path / "tiny", kv_heads=4)
    done = infoprune(installed, tmp_path, "compress", "tiny", "--recipe", RECIPE, "--out", "half")
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "half" / "manifest.json").is_file()


@pytest.mark.timeout(600)
def test_the_sdist_installs_where_no_checkout_and_no_git_is(
    made: dict[str, Path], tmp_path: Path
) -> None:
    """As pip builds it, but with this environment's build backend: nothing is fetched."""
    bare = bare_environment(tmp_path / "venv")
    programs = tmp_path / "bin"  # without git
    programs.mkdir()
    command = [
        sys.executable, "-m", "pip", "--python", str(bare.python), "install", "--no-deps",
        "--no-index", "--no-build-isolation", "--quiet", str(made["sdist"]),
    ]  # fmt: skip
    subprocess.run(command, check=True, cwd=tmp_path, env=bare.variables | {"PATH": str(programs)})
    told = infoprune(bare, tmp_path, "--version")
    version = made["wheel"].name.split("-")[1]
    assert (told.returncode, told.stdout.strip()) == (0, version), told.stderr


def test_the_sdist_has_what_installs_it_with_its_engine(
    made: dict[str, Path], tmp_path: Path
) -> None:
    """What docs/deployment.md says to run in it; here it only says what it would install."""
    assert "python3 deploy/install.py --no-editable --venv /opt/infoprune" in DEPLOYMENT
    with tarfile.open(made["sdist"]) as sdist:
        sdist.extractall(tmp_path, filter="data")
    (there,) = tmp_path.iterdir()
    command = [
        sys.executable, "deploy/install.py", "--no-editable", "--venv", str(tmp_path / "venv"),
        "--extra", "gpu", "--dry-run",
    ]  # fmt: skip
    done = subprocess.run(command, cwd=there, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert all(pin in done.stdout for pin in extra_pins(PYPROJECT, "gpu"))


def version_in(directory: Path) -> str:
    """The version that a build in a directory would have."""
    (directory / "pyproject.toml").write_text(PYPROJECT)
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("GIT_", "UV_DYNAMIC"))}
    # Nothing above the directory counts as its repository.
    environment = kept | {"GIT_CEILING_DIRECTORIES": str(directory.parent)}
    command = [sys.executable, "-m", "hatchling", "version"]
    done = subprocess.run(
        command, cwd=directory, env=environment, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def git(directory: Path, *arguments: str) -> None:
    who = ["-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false"]
    subprocess.run(["git", *who, *arguments], cwd=directory, check=True, capture_output=True)


def test_the_version_is_that_of_the_last_tag(tmp_path: Path) -> None:
    assert version_in(tmp_path) == "0.1.0.dev0", "no git"
    git(tmp_path, "init")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-m", "one")
    assert version_in(tmp_path) == "0.1.0.dev0", "no tag"
    git(tmp_path, "tag", "v1.2.3")
    assert version_in(tmp_path) == "1.2.3"
    git(tmp_path, "commit", "--allow-empty", "-m", "two")
    assert version_in(tmp_path).startswith("1.2.4.dev1+")
