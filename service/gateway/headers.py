"""Headers that clients may send, and those that say who answered. Pure."""

from __future__ import annotations

from service.gateway.call import Headers
from service.routing.aliases import Choice


def choice_headers(choice: Choice) -> Headers:
    """Which model served a request, as the client sees it."""
    headers = [
        (b"x-infoprune-model", _header(choice.entry.name)),
        (b"x-infoprune-variant", choice.entry.variant.encode()),
    ]
    if choice.alias is not None:
        headers.append((b"x-infoprune-alias", _header(choice.alias)))
    return headers


def _header(value: str) -> bytes:
    """A name as a header's value: other than visible ASCII becomes `?`."""
    if value.isascii() and value.isprintable():
        return value.encode()
    return "".join(c if c.isascii() and c.isprintable() else "?" for c in value).encode()


def time_limit(headers: dict[bytes, bytes], longest_s: float) -> float:
    """Seconds that a request may take: the client's `x-request-timeout`, up to the operator's limit."""
    asked = seconds(headers.get(b"x-request-timeout"))
    return longest_s if asked is None else min(asked, longest_s)


def seconds(value: bytes | None) -> float | None:
    """A positive number of them; None where it is none."""
    try:
        found = float(value) if value else None
    except ValueError:
        return None
    return found if found is not None and found > 0 else None
