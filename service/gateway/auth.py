"""Who may ask what: the one table of paths and scopes, and the keys as the gateway last read them."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from types import TracebackType
from urllib.parse import urlsplit

from service.errors import (
    AuthenticationError,
    ForeignOriginError,
    OverloadedError,
    RateLimitError,
    ScopeError,
)
from service.keys import ApiKey, Scope, digest
from service.routing.rate import Rate, admit
from service.settings import is_loopback

# Counts and model names only; a network policy may close them further.
_PUBLIC = frozenset(
    {"/", "/ui", "/health", "/ready", "/metrics", "/docs", "/openapi.json", "/docs/oauth2-redirect"}
)
_PUBLIC_FOLDER = "/ui/"
"""The web page's files, which are the same for everyone; what they show needs a key."""
_BY_PREFIX: tuple[tuple[str, Scope], ...] = (
    ("/v1/", "inference"),
    ("/compress", "jobs"),
    ("/evaluations", "jobs"),
    ("/comparison", "inference"),
)
BURST_S = 1.0
"""What a key saved up in so many seconds it may spend at once."""


def required_scope(path: str) -> Scope | None:
    """The scope that a path needs, None for a public one. What is in no table needs `admin`."""
    if path in _PUBLIC or path.startswith(_PUBLIC_FOLDER):
        return None
    for prefix, scope in _BY_PREFIX:
        if path.startswith(prefix):
            return scope
    return "admin"


def check_local(headers: Mapping[bytes, bytes]) -> None:
    """Without keys only programs of this machine may ask, not the web pages in its browsers.

    A page elsewhere shows itself by its Origin; one whose name was made to lead here, by the Host.

    Raises:
        ForeignOriginError: it is such a page.
    """
    for name in (b"origin", b"host"):
        value = headers.get(name, b"").decode("latin-1")
        if not value:
            continue
        try:
            host = urlsplit(value if name == b"origin" else f"//{value}").hostname
        except ValueError:
            host = None
        if host is None or not is_loopback(host):
            raise ForeignOriginError


class Held:
    """A key and what is going on with it in this process. A context: entered while a request lasts."""

    __slots__ = ("active", "due", "key", "rate")

    def __init__(self, key: ApiKey) -> None:
        self.active, self.due = 0, 0.0
        self.update(key)

    def update(self, key: ApiKey) -> None:
        """Take over a changed record; what is under way goes on."""
        self.key = key
        limit = key.requests_per_minute
        burst = max(1.0, limit / 60.0 * BURST_S) if limit else 0.0
        self.rate = Rate(limit, burst) if limit else None

    @property
    def name(self) -> str | None:
        """Who asks, for the history of changes."""
        return self.key.name

    def __enter__(self) -> None:
        self.active += 1

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        self.active -= 1


class _Open:
    """Nobody's limits."""

    name = None

    def __enter__(self) -> None:
        return None

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        return None


_OPEN = _Open()


class Keyring:
    """The keys by the hash of their token. Limits hold for this gateway process."""

    def __init__(self, *, enabled: bool) -> None:
        self._enabled = enabled
        self._held: dict[str, Held] = {}
        self._read = False

    def replace(self, keys: Iterable[ApiKey]) -> None:
        """Take over what the store has now; revoked keys are gone, counts of the others stay."""
        found: dict[str, Held] = {}
        for key in keys:
            held = self._held.get(key.sha256)
            if held is None:
                held = Held(key)
            elif held.key != key:
                held.update(key)
            found[key.sha256] = held
        self._held, self._read = found, True

    def admit(self, path: str, headers: Mapping[bytes, bytes]) -> Held | _Open:
        """Judge a request by its path and its `Authorization: Bearer` header.

        Returns:
            A context to hold while the request lasts.

        Raises:
            AuthenticationError: no key, or an unknown, revoked or expired one.
            ScopeError: the key is not for this path.
            RateLimitError: the key asks too often, or too much at one time.
            OverloadedError: keys could not be read since the gateway started.
        """
        if not self._enabled:
            # A report's frame has no origin, and may load its one script.
            if not path.startswith(_PUBLIC_FOLDER):
                check_local(headers)
            return _OPEN
        scope = required_scope(path)
        if scope is None:
            return _OPEN
        held = self._find(headers.get(b"authorization", b""))
        if not held.key.allows(scope):
            raise ScopeError(scope)
        self._limit(held)
        return held

    def _find(self, header: bytes) -> Held:
        kind, _, token = header.partition(b" ")
        if kind.lower() != b"bearer" or not token:
            raise AuthenticationError("An API key is needed: Authorization: Bearer <key>.")
        held = self._held.get(digest(token.strip().decode("latin-1")))
        if held is None:
            if not self._read:
                raise OverloadedError("API keys cannot be read, as Redis is away; try again soon.")
            raise AuthenticationError("The API key is unknown or was revoked.")
        if held.key.expired(time.time()):
            raise AuthenticationError("The API key has expired.")
        return held

    def _limit(self, held: Held) -> None:
        most = held.key.max_concurrent
        if most is not None and held.active >= most:
            raise RateLimitError(f"This API key may have {most} requests at one time.", 1.0)
        if held.rate is not None:
            held.due, wait = admit(held.rate, held.due, time.monotonic())
            if wait:
                limit = held.key.requests_per_minute
                raise RateLimitError(f"This API key may ask {limit} times a minute.", wait)
