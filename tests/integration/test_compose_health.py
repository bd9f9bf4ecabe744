"""The health checks of the compose file's processes that do not listen, with a real store."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import psutil
import pytest

from service.workers.process import GuardedProcess
from tests.conftest import FACTOR
from tests.support.compose import LocalCompose, env_file
from tests.support.servers import ROOT, wait_until

DEPLOY = ROOT / "deploy"
LEFT_OUT = frozenset(
    {"store", "keys", "gateway", "worker-original", "worker-compressed", "prometheus", "grafana"}
)
LIMIT_S = 60.0 * FACTOR


@pytest.fixture
def compose(tmp_path: Path, redis_url: str) -> LocalCompose:
    """The evaluations and the runner of the compose file, not started; the store is the test's."""
    secrets = tmp_path / "deploy" / "secrets"
    secrets.mkdir(parents=True)
    shutil.copy(DEPLOY / "compose.yaml", secrets.parent)
    (secrets / "redis_url").write_text(redis_url)
    variables = env_file((DEPLOY / ".env.example").read_text(), {})
    found = LocalCompose(
        secrets.parent / "compose.yaml", variables, tmp_path, "cpu", LEFT_OUT,
        [Path(sys.executable).parent], ROOT,
    )  # fmt: skip
    assert set(found.services) == {"evaluations", "runner"}
    for service in found.services.values():
        service.address = "127.0.0.1"  # the store's: nothing of its URL is to be mapped
        found.hand_over(service)  # as its start does: the check may come first
    return found


def started(compose: LocalCompose, name: str) -> GuardedProcess:
    assert not compose.is_healthy(name), "nothing runs yet"
    compose.start(name, timeout_s=LIMIT_S)
    process = compose.services[name].process
    assert process is not None
    wait_until(lambda: compose.is_healthy(name), timeout_s=LIMIT_S)
    return process


def test_the_evaluations_are_healthy_while_their_loop_asks_the_store(compose: LocalCompose) -> None:
    test = compose.services["evaluations"].spec["healthcheck"]["test"]
    assert "< 60" in test[-1]
    test[-1] = test[-1].replace("< 60", "< 3")
    process = started(compose, "evaluations")
    try:
        (child,) = psutil.Process(process.pid).children()
        child.suspend()
        wait_until(lambda: not compose.is_healthy("evaluations"), timeout_s=LIMIT_S)
        child.resume()
        wait_until(lambda: compose.is_healthy("evaluations"), timeout_s=LIMIT_S)
        process.kill()
        assert not compose.is_healthy("evaluations")
    finally:
        process.stop()


def test_the_runner_is_healthy_while_rq_knows_a_worker_of_this_host(compose: LocalCompose) -> None:
    process = started(compose, "runner")
    try:
        test = compose.services["runner"].spec["healthcheck"]["test"]
        here, test[-1] = test[-1], test[-1].replace("socket.gethostname()", '"elsewhere"')
        assert not compose.is_healthy("runner"), "another host's is not meant"
        test[-1] = here
        assert compose.is_healthy("runner")
        process.stop()
        assert not compose.is_healthy("runner")
    finally:
        process.stop()
