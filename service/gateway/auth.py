"""Who may ask what: the one table of paths and scopes, and the keys as the gateway last read them."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from types import TracebackType
from urllib.parse import urlsplit

from service.errors import (
    AuthenticationError,
    ForeignOriginError,
    OverloadedError,
    RateLimitError,
    ScopeError,
)
from service.gateway.ledger import Heard, Present, Use
from service.keys import ApiKey, Scope, digest
from service.routing.rate import Rate, admit
from service.routing.shares import alone, ceiling, deepest_debt_s, share
from service.settings import is_loopback

# Counts and model names only; a network policy may close them further.
_PUBLIC = frozenset(
    {
        "/",
        "/ui",
        "/health",
        "/ready",
        "/metrics",
        "/metrics/targets",
        "/docs",
        "/openapi.json",
    }
)
_PAGE_FOLDER = "/ui/"
_PUBLIC_FOLDERS = (_PAGE_FOLDER, "/docs/")
"""The web pages' files, which are the same for everyone; what they show needs a key."""
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
    if path in _PUBLIC or path.startswith(_PUBLIC_FOLDERS):
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
    """A key and what is going on with it. A context: entered while a request lasts.

    Its limits hold for all gateways together, within the bounds of `routing/shares.py`; a request is
    judged by what is known here.
    """

    __slots__ = ("active", "ceiling", "due", "gateways", "key", "others", "rate", "spent")

    def __init__(self, key: ApiKey, gateways: int) -> None:
        self.active, self.due, self.spent, self.others = 0, 0.0, 0, 0
        self.gateways = gateways
        self.update(key)

    def update(self, key: ApiKey) -> None:
        """Take over a changed record; what is under way goes on."""
        self.key = key
        self.rate = _rate(key)
        self.ceiling = 0
        if key.max_concurrent is not None:
            self.ceiling = ceiling(key.max_concurrent, self.active, self.others, self.gateways)

    @property
    def limited(self) -> bool:
        """Whether it has limits that gateways must agree on."""
        return self.key.requests_per_minute is not None or self.key.max_concurrent is not None

    def in_use(self, now: float) -> bool:
        """Whether other gateways should hear of it, or this one of theirs."""
        used = self.active or self.spent or self.others or self.due > now
        return bool(used) and self.limited

    def use(self) -> Use:
        """What is told of it; what was spent is told once."""
        spent, self.spent = self.spent, 0
        rate = _rate(self.key)
        if rate is None:
            return Use(self.key.id, self.active, 0.0, 0.0)
        deepest = deepest_debt_s(rate, self.gateways)
        return Use(self.key.id, self.active, spent * rate.interval_s, deepest)

    def hear(self, heard: Heard, gateways: int, now: float) -> None:
        """Go by what all gateways know, and by what was let in here meanwhile."""
        self.others = heard.others
        self.rest(gateways)
        if self.rate is not None:
            self.due = now + heard.ahead_s + self.spent * self.rate.interval_s

    def rest(self, gateways: int) -> None:
        """There are so many gateways."""
        self.gateways = gateways
        self.update(self.key)

    def hear_nothing(self, gateways: int) -> None:
        """Go on with this gateway's own share."""
        self.others, self.gateways = 0, gateways
        rate = _rate(self.key)
        self.rate = None if rate is None else alone(rate, gateways)
        if self.key.max_concurrent is not None:
            self.ceiling = share(self.key.max_concurrent, gateways)

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


def _rate(key: ApiKey) -> Rate | None:
    """The key's own limit, as all gateways together hold it."""
    limit = key.requests_per_minute
    return Rate(limit, max(1.0, limit / 60.0 * BURST_S)) if limit else None


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
    """The keys by the hash of their token."""

    def __init__(self, *, enabled: bool) -> None:
        self._enabled = enabled
        self._held: dict[str, Held] = {}
        self._read = False
        self._gateways = 1
        self._alone = False
        self._used: frozenset[str] = frozenset()
        """Ids of the keys that any gateway uses."""

    def replace(self, keys: Iterable[ApiKey]) -> None:
        """Take over what the store has now; revoked keys are gone, counts of the others stay."""
        found: dict[str, Held] = {}
        for key in keys:
            held = self._held.get(key.sha256)
            if held is None:
                held = Held(key, self._gateways)
            elif held.key != key:
                held.update(key)
            found[key.sha256] = held
        self._held, self._read = found, True

    def known(self) -> list[ApiKey]:
        """The keys as last read."""
        return [held.key for held in self._held.values()]

    @property
    def limited(self) -> bool:
        """Whether any key has limits that gateways must agree on."""
        return any(held.limited for held in self._held.values())

    def in_use(self) -> list[Held]:
        """The keys that gateways should hear of from each other."""
        now = time.monotonic()
        return [h for h in self._held.values() if h.key.id in self._used or h.in_use(now)]

    def heard(self, keys: Sequence[Held], said: Sequence[Heard], present: Present) -> None:
        """What the other gateways said of these keys; the rest of them is at rest."""
        gateways, self._used = present.gateways, present.keys
        if self._alone or gateways != self._gateways:
            self._alone, self._gateways = False, gateways
            for held in self._held.values():
                held.rest(gateways)
        now = time.monotonic()
        for held, one in zip(keys, said, strict=True):
            held.hear(one, gateways, now)

    def heard_nothing(self) -> None:
        """The other gateways cannot be heard: this one goes on with its own share."""
        self._alone = True
        for held in self._held.values():
            held.hear_nothing(self._gateways)

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
            if not path.startswith(_PAGE_FOLDER):
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
        if most is not None and held.active >= held.ceiling:
            raise RateLimitError(f"This API key may have {most} requests at one time.", 1.0)
        if held.rate is not None:
            held.due, wait = admit(held.rate, held.due, time.monotonic())
            if wait:
                limit = held.key.requests_per_minute
                raise RateLimitError(f"This API key may ask {limit} times a minute.", wait)
            held.spent += 1
