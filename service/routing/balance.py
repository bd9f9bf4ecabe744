"""Which of several workers answers: the least loaded, or the one that has seen the image. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Protocol, TypeVar

SLACK = 2
"""Requests that a worker may have more than the least loaded and still get images it knows."""


class Candidate(Protocol):
    """A worker that may be asked."""

    @property
    def id(self) -> str:
        """Its name."""

    @property
    def in_flight(self) -> int:
        """Requests that it has not answered yet."""


C = TypeVar("C", bound=Candidate)


def choose(candidates: Sequence[C], image: bytes | None) -> C | None:
    """The worker for one request; None where there is no candidate.

    Without an image the one with the fewest requests in flight, ties by id. With one, the image's own
    worker (rendezvous hashing, so that a worker that comes or goes moves only its own images) unless
    that one has more than `SLACK` requests more than the least loaded: its encoder cache is warm.
    """
    if len(candidates) < 2:
        return candidates[0] if candidates else None
    least = min(candidates, key=_load)
    if image is None:
        return least
    own = max(candidates, key=lambda c: (affinity(image, c.id), c.id))
    return own if own.in_flight <= least.in_flight + SLACK else least


def affinity(image: bytes, worker: str) -> bytes:
    """How much an image belongs to a worker: 8 pseudo-random bytes, the same in every process."""
    return hashlib.blake2b(image, digest_size=8, key=worker.encode()[:64]).digest()


def image_key(data: str | bytes) -> bytes:
    """A short key of an image: its length and samples of it, as reading megabytes would cost more."""
    middle = len(data) // 2
    parts = (data[:2048], data[middle : middle + 2048], data[-2048:])
    key = hashlib.blake2b(str(len(data)).encode(), digest_size=16)
    for part in parts:
        key.update(part.encode("utf-8", "replace") if isinstance(part, str) else part)
    return key.digest()


def _load(candidate: Candidate) -> tuple[int, str]:
    return candidate.in_flight, candidate.id
