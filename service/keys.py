"""API keys: what a key may do, and where keys are kept. A secret is shown once and stored hashed."""

from __future__ import annotations

import hashlib
import os
import secrets
import time
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field
from redis import Redis

KEYS_KEY = "infoprune:keys"
Scope = Literal["inference", "jobs", "admin"]


class ApiKey(BaseModel):
    """What is stored of a key. `sha256` is of the whole token: 256 random bits need no slow hash."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    name: str
    sha256: str
    scopes: frozenset[Scope]
    created: float = Field(default_factory=time.time)
    expires: float | None = None
    """Unix time, seconds."""
    requests_per_minute: Annotated[int, Field(gt=0)] | None = None
    max_concurrent: Annotated[int, Field(gt=0)] | None = None

    def allows(self, scope: Scope) -> bool:
        """Whether the key is good for a scope; `admin` is good for all."""
        return scope in self.scopes or "admin" in self.scopes

    def expired(self, now: float) -> bool:
        """Whether it is over at a Unix time."""
        return self.expires is not None and now >= self.expires


def digest(token: str) -> str:
    """What is stored of a token, hex."""
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).hexdigest()


class KeyStore:
    """Keys in one Redis hash. Synchronous: call it in a thread from async code."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    def create(
        self,
        name: str,
        scopes: frozenset[Scope],
        *,
        lifetime_s: float | None = None,
        requests_per_minute: int | None = None,
        max_concurrent: int | None = None,
    ) -> tuple[str, ApiKey]:
        """A new key; the token is returned here and nowhere else."""
        identifier = secrets.token_hex(4)
        token = f"ip-{identifier}-{secrets.token_urlsafe(32)}"
        key = ApiKey(
            id=identifier,
            name=name,
            sha256=digest(token),
            scopes=scopes,
            expires=None if lifetime_s is None else time.time() + lifetime_s,
            requests_per_minute=requests_per_minute,
            max_concurrent=max_concurrent,
        )
        self._redis.hset(KEYS_KEY, key.id, key.model_dump_json())
        return token, key

    def list(self) -> list[ApiKey]:
        """All keys, oldest first."""
        values = self._redis.hvals(KEYS_KEY)
        return sorted((ApiKey.model_validate_json(v) for v in values), key=lambda k: k.created)

    def revoke(self, identifier: str) -> bool:
        """Forget a key; whether there was one."""
        return bool(self._redis.hdel(KEYS_KEY, identifier))


def write_secret(path: Path, secret: str) -> None:
    """A new file that only its owner reads; it is there whole or not at all."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "w") as file:
        file.write(secret + "\n")
    temporary.rename(path)
