from __future__ import annotations

import time

import pytest

from service.errors import (
    AuthenticationError,
    ForeignOriginError,
    OverloadedError,
    RateLimitError,
    ScopeError,
)
from service.gateway.auth import Keyring, required_scope
from service.keys import ApiKey, Scope, digest

TOKEN = "ip-1-secret"


def key(*scopes: Scope, **changes: object) -> ApiKey:
    fields = {"id": "1", "name": "n", "sha256": digest(TOKEN), "scopes": frozenset(scopes)}
    return ApiKey.model_validate({**fields, **changes})


def ring(*keys: ApiKey) -> Keyring:
    found = Keyring(enabled=True)
    found.replace(keys)
    return found


def bearer(token: str = TOKEN) -> dict[bytes, bytes]:
    return {b"authorization": b"Bearer " + token.encode()}


@pytest.mark.parametrize(
    ("path", "scope"),
    [
        ("/health", None),
        ("/ready", None),
        ("/v1/chat/completions", "inference"),
        ("/v1/models", "inference"),
        ("/compress/abc", "jobs"),
        ("/evaluations", "jobs"),
        ("/aliases/a", "admin"),
        ("/healthy", "admin"),
        ("//v1/models", "admin"),
        ("/", None),
        ("/ui/app.js", None),
        ("/uix", "admin"),
        ("/comparison", "inference"),
    ],
)
def test_a_path_in_no_table_needs_admin(path: str, scope: Scope | None) -> None:
    assert required_scope(path) == scope


@pytest.mark.parametrize("headers", [{}, {b"authorization": b"Basic x"}, bearer("ip-1-other")])
def test_who_has_no_valid_key_is_nobody(headers: dict[bytes, bytes]) -> None:
    with pytest.raises(AuthenticationError):
        ring(key("admin")).admit("/v1/models", headers)


def test_public_paths_need_no_key() -> None:
    with ring().admit("/health", {}):
        pass


def test_a_key_is_good_for_its_scopes_only_and_admin_for_all() -> None:
    with pytest.raises(ScopeError, match="'jobs'"):
        ring(key("inference")).admit("/compress", bearer())
    with ring(key("admin")).admit("/compress", bearer()):
        pass


def test_an_expired_or_revoked_key_is_refused() -> None:
    with pytest.raises(AuthenticationError, match="expired"):
        ring(key("inference", expires=time.time() - 1)).admit("/v1/models", bearer())
    held = ring(key("inference"))
    held.replace([])
    with pytest.raises(AuthenticationError, match="revoked"):
        held.admit("/v1/models", bearer())


def test_while_no_keys_could_be_read_nobody_is_called_a_stranger() -> None:
    with pytest.raises(OverloadedError, match="Redis is away"):
        Keyring(enabled=True).admit("/v1/models", bearer())


def test_a_key_asks_as_often_as_it_may() -> None:
    held = ring(key("inference", requests_per_minute=1))
    with held.admit("/v1/models", bearer()):
        pass
    with pytest.raises(RateLimitError) as caught:
        held.admit("/v1/models", bearer())
    assert caught.value.retry_after_s == pytest.approx(60, abs=1)


def test_a_key_has_as_much_under_way_as_it_may_and_a_new_reading_forgets_nothing() -> None:
    record = key("inference", max_concurrent=1)
    held = ring(record)
    with held.admit("/v1/models", bearer()):
        held.replace([record.model_copy(update={"name": "other"})])
        with pytest.raises(RateLimitError, match="1 requests at one time"):
            held.admit("/v1/models", bearer())
    with held.admit("/v1/models", bearer()):
        pass


def test_without_keys_everything_is_open() -> None:
    with Keyring(enabled=False).admit("/aliases", {}):
        pass


@pytest.mark.parametrize(
    "headers",
    [
        {b"host": b"evil.example:8080"},
        {b"host": b"localhost:8080", b"origin": b"https://evil.example"},
        {b"host": b"127.0.0.1", b"origin": b"null"},
        {b"host": b"[::1"},
    ],
)
def test_without_keys_a_web_page_cannot_ask(headers: dict[bytes, bytes]) -> None:
    with pytest.raises(ForeignOriginError):
        Keyring(enabled=False).admit("/compress", headers)


@pytest.mark.parametrize("host", [b"localhost:8080", b"127.0.0.1:1", b"[::1]:80", b""])
def test_without_keys_programs_of_this_machine_can(host: bytes) -> None:
    with Keyring(enabled=False).admit("/compress", {b"host": host}):
        pass


def test_without_keys_a_frame_without_origin_gets_files_and_no_data() -> None:
    open_ring, headers = Keyring(enabled=False), {b"origin": b"null", b"host": b"127.0.0.1:1"}
    assert open_ring.admit("/ui/js/report-frame.js", headers).name is None
    for path in ("/v1/models", "/ui", "/uix", "/models"):
        with pytest.raises(ForeignOriginError):
            open_ring.admit(path, headers)
