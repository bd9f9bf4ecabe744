"""deploy/compose.yaml and docker/: valid, hardened, pinned, and the same as the code says."""

from __future__ import annotations

import re
import sys
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest
import yaml
from rq import Worker

from service.settings import Settings
from service.telemetry.tracing import traces_endpoint
from service.workers.vllm_command import Machine, worker_command
from tests.support.compose import LocalCompose, env_file, interpolated, started_order
from tests.unit.test_routing import entry

ROOT = Path(__file__).resolve().parents[2]
COMPOSE = ROOT / "deploy" / "compose.yaml"
DOCKERFILE = ROOT / "docker" / "Dockerfile"
ENVIRONMENT = env_file((ROOT / "deploy" / ".env.example").read_text(), {})
CONTENT: dict[str, Any] = interpolated(yaml.safe_load(COMPOSE.read_text()), ENVIRONMENT)
SERVICES: dict[str, dict[str, Any]] = CONTENT["services"]
OTLP = "OTEL_EXPORTER_OTLP_ENDPOINT"
EXACT_TAG = re.compile(r"[\w./-]+:v?\d+\.\d+\.\d+[\w.-]*(@sha256:[0-9a-f]{64})?")


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


@pytest.mark.parametrize("name", [n for n, s in SERVICES.items() if s["restart"] != "no"])
def test_every_service_that_stays_up_has_a_health_check(name: str) -> None:
    check = SERVICES[name]["healthcheck"]
    assert check["test"][0] in {"CMD", "CMD-SHELL"}
    assert {"interval", "timeout", "retries"} <= set(check)


def test_only_the_service_that_makes_keys_ends_by_itself() -> None:
    assert [name for name, spec in SERVICES.items() if spec["restart"] == "no"] == ["keys"]


@pytest.mark.parametrize("name", ["evaluations", "runner", "runner-gpu"])
def test_a_health_check_in_python_can_be_read_by_python(name: str) -> None:
    kind, program, option, code = SERVICES[name]["healthcheck"]["test"]
    assert (kind, program, option) == ("CMD", "python", "-c")
    compile(code, name, "exec")


def test_the_runners_health_check_asks_for_what_rq_writes() -> None:
    assert f'"{Worker.redis_workers_keys}"' in SERVICES["runner"]["healthcheck"]["test"][-1]


def test_only_the_gateway_and_grafana_are_reached_from_outside() -> None:
    published = {name: spec["ports"] for name, spec in SERVICES.items() if "ports" in spec}
    assert set(published) == {"gateway", "grafana"}
    assert all(port.startswith("127.0.0.1:") for ports in published.values() for port in ports)
    front = {name for name, spec in SERVICES.items() if "front" in spec["networks"]}
    assert front == set(published)


def test_secrets_are_never_variables() -> None:
    said = {name for spec in SERVICES.values() for name in spec.get("environment", {})}
    told = {n for n in said if re.search("PASSWORD|REDIS_URL|API_KEY|TOKEN", n)}
    assert told == {"GF_SECURITY_ADMIN_PASSWORD__FILE"}, "the name of a file"
    assert not re.search("PASSWORD|REDIS_URL|API_KEY", "".join(ENVIRONMENT)), "nor of deploy/.env"


def test_a_read_only_service_gets_its_secrets_by_file_only() -> None:
    """Compose refuses any other kind there: it would have to copy it into the container."""
    secrets = CONTENT["secrets"]
    assert secrets == {name: {"file": f"./secrets/{name}"} for name in secrets}
    read_only = [spec for spec in SERVICES.values() if spec["read_only"]]
    assert {name for spec in read_only for name in spec.get("secrets", [])} == set(secrets)
    assert not any("configs" in spec for spec in read_only), "the same holds for configs"


def test_the_secrets_are_neither_committed_nor_put_into_images() -> None:
    assert "deploy/secrets/" in (ROOT / ".gitignore").read_text().splitlines()
    lines = DOCKERFILE.with_name("Dockerfile.dockerignore").read_text().splitlines()
    assert "*" in lines, "nothing goes in"
    let_in = [line.removeprefix("!") for line in lines if line.startswith("!")]
    paths = ("deploy", "deploy/secrets", "deploy/secrets/redis_url", "deploy/.env")
    # Stricter than Docker, whose `*` ends at a slash.
    assert [(path, line) for path in paths for line in let_in if fnmatch(path, line)] == []


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
        assert set(said) - ours <= {"OMP_WAIT_POLICY", OTLP}, name
        with monkeypatch.context() as patch:
            for variable, value in said.items():
                patch.setenv(variable, str(value))
            settings = Settings()
        assert str(settings.run_dir) == "/var/lib/infoprune"
        assert traces_endpoint(settings) is None, "an empty variable is none"


def test_a_collector_that_is_named_is_every_processs(monkeypatch: pytest.MonkeyPatch) -> None:
    """vLLM's as well: whoever starts it tells it the settings' collector."""
    url = "http://collector:4318"
    named = interpolated(yaml.safe_load(COMPOSE.read_text()), ENVIRONMENT | {OTLP: url})["services"]
    ours = {n for n, spec in named.items() if "INFOPRUNE_RUN_DIR" in spec.get("environment", {})}
    assert ours == {n for n, spec in SERVICES.items() if "build" in spec}
    assert {named[name]["environment"][OTLP] for name in ours} == {url}
    monkeypatch.setenv(OTLP, url)
    machine = Machine(cores=2, cpu_flags=frozenset(), has_gpu=False)
    command = worker_command(entry("a"), 8000, Settings(), machine)
    assert command[command.index("--otlp-traces-endpoint") + 1] == f"{url}/v1/traces"


def test_what_is_built_is_told_the_version_that_its_tag_says() -> None:
    built = {name: spec for name, spec in SERVICES.items() if "build" in spec}
    assert len(built) == 9
    for name, spec in built.items():
        assert spec["build"]["args"]["VERSION"] == spec["image"].partition(":")[2], name


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
    compose = LocalCompose(
        COMPOSE, ENVIRONMENT, tmp_path, "cpu", programs=[Path(sys.executable).parent]
    )
    assert "runner-gpu" not in compose.services
    store, gateway = compose.services["store"], compose.services["gateway"]
    assert store.address != gateway.address
    assert store.address.startswith("127.")
    mapped = compose.mapped(gateway, "redis://:x@store:6379/0 /run/secrets:/tmp/alive 0.0.0.0")
    place = tmp_path / "containers" / "gateway"
    assert mapped == (
        f"redis://:x@{store.address}:6379/0 {place}/secrets:{place}/tmp/alive {gateway.address}"
    )
    assert "keys" in compose.command(compose.services["keys"]), "a word that is no host's name"
    environment = compose.environment(compose.services["evaluations"])
    assert environment["INFOPRUNE_HOST"] == gateway.address
    assert environment["INFOPRUNE_RUN_DIR"] == str(tmp_path / "volumes" / "evaluations")
