"""API keys over HTTP, and `infoprune keys`."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from redis import Redis

from service.client import GatewayClient
from service.errors import ServiceError
from service.keys import KEYS_KEY, KeyStore, digest
from service.operator_errors import SettingsError
from service.registry import Registry, WorkerState
from service.settings import Settings
from tests.integration.conftest import entry
from tests.support.http import call, chat
from tests.support.servers import ROOT, gateway_within, wait_until

CHAT = "/v1/chat/completions"


@pytest.fixture
def locked(settings: Settings, redis: Redis, fake_engine: str) -> Iterator[str]:
    """URL of a gateway that asks for keys."""
    Registry(redis).put_model(entry("tiny"))
    Registry(redis).put_worker(WorkerState(id="w1", model="tiny", url=fake_engine, status="ready"))
    changed = settings.model_copy(update={"auth": "keys"})
    with gateway_within(changed):
        yield settings.gateway_url


def bearer(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}


def test_keys_open_what_they_are_for_until_they_are_revoked(locked: str, redis: Redis) -> None:
    assert call("POST", locked + CHAT, chat()).status == 401
    assert call("GET", f"{locked}/v1/models").status == 401
    assert call("GET", f"{locked}/nowhere").status == 401

    store = KeyStore(redis)
    token, key = store.create("test", frozenset({"inference"}))
    wait_until(lambda: call("GET", f"{locked}/v1/models", headers=bearer(token)).status == 200)
    assert call("POST", locked + CHAT, chat(), bearer(token)).status == 200
    refused = call("GET", f"{locked}/compress", headers=bearer(token))
    assert (refused.status, refused.json()["error"]["code"]) == (403, "insufficient_scope")

    store.revoke(key.id)
    wait_until(lambda: call("POST", locked + CHAT, chat(), bearer(token)).status == 401)


def test_a_command_without_a_key_hears_where_to_put_one(locked: str) -> None:
    with pytest.raises(ServiceError, match=r"key is needed.* send the one .*_API_KEY.*admin-key"):
        GatewayClient(locked, api_key=None).call("GET", "/models")


def test_a_key_holds_while_redis_is_away(locked: str, redis: Redis) -> None:
    token, _ = KeyStore(redis).create("test", frozenset({"inference"}))
    wait_until(lambda: call("GET", f"{locked}/v1/models", headers=bearer(token)).status == 200)
    redis.shutdown(nosave=True)
    wait_until(lambda: call("GET", f"{locked}/ready").json()["store"] == "away")
    assert call("POST", locked + CHAT, chat(), bearer(token)).status == 200
    assert call("POST", locked + CHAT, chat(), bearer("ip-other")).status == 401


def test_who_asks_too_often_is_told_when_to_come_back(locked: str, redis: Redis) -> None:
    token, _ = KeyStore(redis).create("test", frozenset({"inference"}), requests_per_minute=2)
    headers = bearer(token)
    wait_until(lambda: call("POST", locked + CHAT, chat(), headers).status == 200)
    reply = call("POST", locked + CHAT, chat(), headers)
    assert (reply.status, reply.json()["error"]["code"]) == (429, "rate_limit_exceeded")
    assert 25 <= int(reply.headers["retry-after"]) <= 30


def test_neither_secrets_nor_images_nor_questions_are_stored_or_logged(
    locked: str, redis: Redis, capfd: pytest.CaptureFixture[str]
) -> None:
    token, _ = KeyStore(redis).create("test", frozenset({"inference"}))
    wait_until(lambda: call("GET", f"{locked}/v1/models", headers=bearer(token)).status == 200)
    secret, image = "a-most-private-question", "data:image/png;base64,UHJpdmF0ZQ=="
    part = {"type": "image_url", "image_url": {"url": image}}
    body = chat(secret)
    body["messages"].append({"role": "user", "content": [part]})
    assert call("POST", locked + CHAT, body, bearer(token)).status == 400
    assert call("POST", locked + CHAT, chat(secret + "hang"), bearer(token)).status == 504

    stored = repr(redis.hvals(KEYS_KEY)).encode()
    logged = "".join(capfd.readouterr()).encode()
    for private in (token, token.rpartition("-")[2], secret, "UHJpdmF0ZQ"):
        assert private.encode() not in stored + logged


def test_without_keys_only_this_machine_is_served() -> None:
    Settings(auth="off", host="127.0.0.1")
    Settings(auth="off", host="::1")
    for host in ("0.0.0.0", "::", "10.0.0.1", "example.org"):
        with pytest.raises(ValueError, match="binds to loopback"):
            Settings(auth="off", host=host)


def infoprune(settings: Settings, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | settings.to_environment(settings.require_redis_url())
    return subprocess.run(
        [sys.executable, "-m", "service.cli", "keys", *arguments],
        cwd=ROOT, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_keys_are_made_listed_and_revoked_by_command(settings: Settings, redis: Redis) -> None:
    made = infoprune(
        settings, "create", "ci", "--scope", "jobs", "--days", "1", "--per-minute", "5"
    )
    token = made.stdout.strip()
    (key,) = KeyStore(redis).list()
    assert token.startswith(f"ip-{key.id}-")
    assert (key.name, key.scopes, key.requests_per_minute) == ("ci", frozenset({"jobs"}), 5)

    listed = infoprune(settings, "list").stdout
    assert key.id in listed
    assert token not in listed
    assert infoprune(settings, "create", "x", "--scope", "all").returncode == 1
    assert infoprune(settings, "revoke", key.id).returncode == 0
    assert KeyStore(redis).list() == []
    again = infoprune(settings, "revoke", key.id)
    assert (again.returncode, SettingsError.__name__ in again.stderr) == (1, False)


def test_the_first_keys_of_a_deployment_are_files_that_only_their_owner_reads(
    settings: Settings, redis: Redis, tmp_path: Path
) -> None:
    for name in ("admin", "evaluations"):
        (tmp_path / name).mkdir()
    command = [f"--{n}={tmp_path / n}" for n in ("admin", "evaluations")]
    first = infoprune(settings, "bootstrap", *command)
    assert first.returncode == 0, first.stderr
    files = {n: tmp_path / n / "infoprune_api_key" for n in ("admin", "evaluations")}
    assert {path.stat().st_mode & 0o777 for path in files.values()} == {0o600}
    tokens = {name: path.read_text().strip() for name, path in files.items()}
    scopes = {key.sha256: key.scopes for key in KeyStore(redis).list()}
    assert scopes[digest(tokens["admin"])] == {"admin"}
    assert scopes[digest(tokens["evaluations"])] == {"inference"}
    assert all(token not in first.stdout + first.stderr for token in tokens.values())

    assert infoprune(settings, "bootstrap", *command).returncode == 0
    assert {name: path.read_text().strip() for name, path in files.items()} == tokens
    assert len(KeyStore(redis).list()) == 2
