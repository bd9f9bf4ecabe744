"""Who changes something, for the history."""

from __future__ import annotations

from starlette.requests import Request

from service.rollout.records import By

ACTOR_HEADER = "x-infoprune-actor"
_LONGEST = 100


def actor(request: Request, why: str = "") -> By:
    """The key's name where the gateway asks for keys, else what the client says of itself."""
    key = getattr(request.state, "key_name", None)
    said = request.headers.get(ACTOR_HEADER, "unknown")
    who = key if isinstance(key, str) else "".join(c for c in said if c.isprintable())
    return By(who=who[:_LONGEST], why=why)
