"""`infoprune top` against the real gateway."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from redis import Redis
from typer.testing import CliRunner, Result

from service.cli import app
from service.client import GatewayClient
from service.errors import ServiceError
from service.jobs.records import JobRecords
from service.keys import KeyStore
from service.registry import Registry, WorkerState
from service.settings import Settings
from service.top.cli import Watch
from service.top.reader import Reader
from service.workers.manager import free_port
from tests.support.http import call, chat
from tests.support.registry import model
from tests.support.servers import ROOT, gateway_within, wait_until

JSON = {"content-type": "application/json"}


def top(*arguments: str) -> Result:
    return CliRunner(env={"COLUMNS": "160"}).invoke(app, ["top", *arguments])


@pytest.fixture
def pair(gateway: str, redis: Redis, fake_engine: str) -> str:
    """Two models behind an alias with a shadow, and a job that waits."""
    registry = Registry(redis)
    registry.put_model(model("small", variant="compressed", base="tiny", plan_sha256="1"))
    registry.put_worker(WorkerState(id="w3", model="small", url=fake_engine, status="ready"))
    wait_until(lambda: call("GET", f"{gateway}/models/small").status == 200)
    assert (
        call("PUT", f"{gateway}/aliases/prod", {"targets": [{"model": "tiny"}]}, JSON).status == 200
    )
    shadow = {"candidate": "small", "share": 1.0}
    assert call("POST", f"{gateway}/aliases/prod/shadow", shadow, JSON).status == 200
    JobRecords(redis).create("tiny", "small-2", {"flops": 0.5})
    return gateway


def ask(gateway: str, name: str, count: int) -> None:
    for number in range(count):
        body = chat(model=name, stream=bool(number % 2), temperature=0)
        assert call("POST", f"{gateway}/v1/chat/completions", body).status == 200


def test_the_view_counts_what_happened_in_the_window(pair: str) -> None:
    now = [0.0]
    reader = Reader(GatewayClient(pair, api_key=None), window_s=30.0, clock=lambda: now[0])
    reader.scrape()
    ask(pair, "prod", 6)
    ask(pair, "small", 3)
    now[0] = 10.0
    reader.scrape()
    view = reader.view()

    rows = {row.model: row for row in view.models}
    assert (rows["tiny"].requests_per_s, rows["small"].requests_per_s) == (0.6, 0.3)
    assert rows["tiny"].tokens_per_s == pytest.approx(1.2), "two tokens an answer"
    assert rows["tiny"].error_share == 0.0
    assert rows["tiny"].p95_s is not None
    assert rows["tiny"].first_token_p50_s is not None
    (ratios,) = view.ratios
    assert (ratios.original, ratios.compressed) == ("tiny", "small")
    assert ratios.requests_per_s == pytest.approx(0.5)
    assert [alias.candidate for alias in view.aliases] == ["small"]
    assert [(job.name, job.status) for job in view.jobs] == [("small-2", "queued")]

    now[0] = 45.0  # all of it is older than the window
    reader.scrape()
    now[0] = 50.0
    reader.scrape()
    quiet = {row.model: row for row in reader.view().models}
    assert (quiet["tiny"].requests_per_s, quiet["tiny"].p95_s) == (0.0, None)


def test_once_prints_tables_and_json_is_one_object(pair: str) -> None:
    shown = top("--url", pair, "--once", "--interval", "0.1")
    assert shown.exit_code == 0, shown.output
    for word in ("tiny", "small", "ratio", "latency, p95", "shadow small", "small-2"):
        assert word in shown.stdout
    assert "\x1b" not in shown.stdout

    assert models_of(pair) == {"tiny", "asleep", "small"}
    assert models_of(pair, "--alias", "prod") == {"tiny", "small"}

    missing = top("--url", pair, "--once", "--interval", "0.1", "--alias", "prd")
    assert missing.exit_code == 1
    assert "The alias 'prd' does not exist; aliases: prod;" in missing.output


def models_of(url: str, *options: str) -> set[str]:
    """The models of the one object; the gateway of these tests logs to the same output."""
    shown = top("--url", url, "--once", "--interval", "0.1", "--json", *options).stdout
    lines = [json.loads(line) for line in shown.splitlines()]
    (found,) = [line for line in lines if "event" not in line]
    return {row["model"] for row in found["models"]}


def test_no_gateway_is_told_in_one_sentence() -> None:
    found = top("--url", f"http://127.0.0.1:{free_port()}", "--once")
    assert found.exit_code == 1
    assert found.stdout == ""
    assert "No gateway answers at" in found.stderr
    assert len(found.stderr.splitlines()) == 1


def test_another_server_is_told_in_one_sentence(fake_engine: str) -> None:
    found = top("--url", fake_engine, "--once")
    assert found.exit_code == 1
    assert "does not have a gateway's metrics" in found.stderr


@pytest.fixture
def locked(settings: Settings, redis: Redis) -> Iterator[tuple[str, KeyStore]]:
    """A gateway that asks for keys."""
    Registry(redis).put_model(model("tiny"))
    with gateway_within(settings.model_copy(update={"auth": "keys"})):
        yield settings.gateway_url, KeyStore(redis)


def test_a_refused_key_is_told_in_one_sentence(locked: tuple[str, KeyStore]) -> None:
    gateway, _ = locked
    for arguments in ((), ("--key", "ip-wrong")):
        found = top("--url", gateway, "--once", "--interval", "0.1", *arguments)
        assert found.exit_code == 1
        assert "API key" in found.stderr
        assert len(found.stderr.splitlines()) == 1


def test_a_key_for_inference_sees_models_and_is_told_what_is_missing(
    locked: tuple[str, KeyStore],
) -> None:
    gateway, keys = locked
    token, _ = keys.create("reader", frozenset({"inference"}))
    wait_until(lambda: "Not shown" in top(
        "--url", gateway, "--once", "--interval", "0.1", "--key", token).stdout)  # fmt: skip
    found = top("--url", gateway, "--once", "--interval", "0.1", "--key", token)
    assert found.exit_code == 0
    assert "tiny" in found.stdout
    assert "scope 'admin'" in found.stdout
    assert "scope 'jobs'" in found.stdout


@contextmanager
def started(*arguments: str, log: Path) -> Iterator[subprocess.Popen[str]]:
    """The command as a process of its own; its standard output is a pipe."""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "service.cli", "top", *arguments]
    with log.open("w") as errors:
        process = subprocess.Popen(
            command, env=environment, cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=errors
        )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def lines(process: subprocess.Popen[str], count: int) -> Sequence[Any]:
    assert process.stdout is not None
    return [json.loads(process.stdout.readline()) for _ in range(count)]


def test_in_a_pipe_it_goes_on_until_it_is_interrupted(pair: str, tmp_path: Path) -> None:
    with started("--url", pair, "--json", "--interval", "0.2", log=tmp_path / "errors") as process:
        first, second = lines(process, 2)
        assert second["at"] > first["at"]
        process.send_signal(signal.SIGINT)
        assert process.wait(120) == 0
    assert (tmp_path / "errors").read_text() == ""


def read_until(terminal: int, wanted: bytes) -> bytes:
    """What a program writes to a terminal, up to these bytes, or all where it ends before."""
    seen = b""
    with suppress(OSError):  # Linux says EIO where the program closed its end
        while wanted not in seen:
            seen += os.read(terminal, 65536)
    return seen


def test_on_a_terminal_it_draws_and_gives_the_screen_back(pair: str) -> None:
    terminal, end = pty.openpty()
    command = [sys.executable, "-m", "service.cli", "top", "--url", pair, "--interval", "0.2"]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "TERM": "xterm", "COLUMNS": "120"}
    process = subprocess.Popen(
        command, env=environment, cwd=ROOT, stdin=end, stdout=end, stderr=end
    )
    os.close(end)
    try:
        assert b"requests/s" in read_until(terminal, b"waiting")
        process.send_signal(signal.SIGINT)
        rest = read_until(terminal, b"\x1b[?1049l")
        assert b"\x1b[?1049l" in rest, "the former screen is back"
        assert b"Traceback" not in rest
        assert process.wait(120) == 0
    finally:
        process.kill()
        process.wait()
        os.close(terminal)


def test_a_gateway_that_goes_away_is_waited_for(settings: Settings, redis: Redis) -> None:
    Registry(redis).put_model(model("tiny"))
    reader = Reader(GatewayClient(settings.gateway_url, api_key=None), window_s=30.0)
    with pytest.raises(ServiceError, match="No gateway answers"):
        Watch(reader, 0.05, frozenset(), frozenset())
    with gateway_within(settings):
        watch = Watch(reader, 0.05, frozenset(), frozenset())
        assert watch.look().notes == ()
    away = watch.look()
    assert [row.model for row in away.models] == ["tiny"]
    assert "These are the last figures." in away.notes[0]
    with gateway_within(settings):
        assert watch.look().notes == ()


def test_a_clients_error_has_the_gateways_status(pair: str) -> None:
    with pytest.raises(ServiceError) as caught:
        GatewayClient(pair, api_key=None).call("GET", "/aliases/none")
    assert caught.value.status == 404
