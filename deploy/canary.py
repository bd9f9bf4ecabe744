"""A canary for pictures of the page: begun between two served models, asked, and taken away again."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from compressor.evaluate.endpoint import chat_request
from compressor.evaluate.example import Example
from service.client import GatewayClient
from service.errors import ServiceError

QUESTIONS = ("what color is the shape?", "what shape is present?", "is there a red shape?")
RULES = {"steps": [25, 50, 100], "mirror": 1.0, "min_samples": 200}
"""Copies of every request, for an agreement after few; a step that lasts longer than the pictures."""
ASKED = 48
PATIENCE_S = 180.0


class NotReadyError(ServiceError):
    """There is nothing to take pictures of."""


class Pair(NamedTuple):
    """Two models that are served."""

    original: str
    compressed: str


def served_pair(client: GatewayClient) -> Pair:
    """A compressed model and its original, both of which can be asked.

    Raises:
        NotReadyError: there are none.
        ServiceError: no gateway answers, or it refuses the key.
    """
    models = client.call("GET", "/v1/models")["data"]
    ready = {model["id"] for model in models if model["ready"]}
    for model in models:
        if model["variant"] == "compressed" and {model["id"], model["base"]} <= ready:
            return Pair(model["base"], model["id"])
    raise NotReadyError(
        "The service has no compressed model beside its original, both ready, so there is nothing to "
        "take pictures of; `make demo` makes and serves both."
    )


@contextmanager
def canary(client: GatewayClient, pair: Pair, picture: Path) -> Iterator[str]:
    """An alias of its own with a canary that has numbers; it is gone when the block ends.

    Raises:
        ServiceError: the key may not change aliases, or the models do not answer.
    """
    known = {alias["name"] for alias in client.call("GET", "/aliases")["data"]}
    names = itertools.chain(["prod"], (f"prod-{number}" for number in itertools.count(2)))
    name = next(each for each in names if each not in known)
    begun = {"original": pair.original, "candidate": pair.compressed, **RULES}
    client.call("POST", f"/aliases/{name}/canary", begun)
    try:
        _converse(client, name, picture)
        _wait_for_pairs(client, name)
        yield name
    finally:
        with suppress(ServiceError):  # it may have ended by itself
            client.call("DELETE", f"/aliases/{name}/canary")
        client.call("DELETE", f"/aliases/{name}")


def _converse(client: GatewayClient, name: str, picture: Path) -> None:
    """Ask greedily, as answers are compared only then."""
    for question in itertools.islice(itertools.cycle(QUESTIONS), ASKED):
        asked = Example.about_file("picture", question, ("",), "exact", picture)  # nobody scores it
        client.call("POST", "/v1/chat/completions", chat_request(name, asked))


def _wait_for_pairs(client: GatewayClient, name: str) -> None:
    """Copies are answered behind the clients' backs: wait for the pairs that they make."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        compared = client.call("GET", f"/aliases/{name}")["comparison"]
        if compared is not None and compared["agreement"]["n"]:
            return
        if time.monotonic() > deadline:
            raise NotReadyError(
                f"No answers of the canary on {name!r} were compared within {PATIENCE_S:g} s; the "
                "gateway's log says why."
            )
        time.sleep(0.5)
