"""Workers elsewhere, by setting: fixed URLs, and DNS names that stand for all of their addresses."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Mapping, Sequence
from urllib.parse import urlsplit

import structlog

from service.registry import Flops, ModelEntry, Snapshot, WorkerState

log = structlog.get_logger()
RESOLVE_EVERY_S = 5.0
DNS = "dns+"
_UNKNOWN = Flops(vision=0, projector=0, prefill=0, decode_token=0, visual_tokens=0, text_tokens=0)


class Elsewhere:
    """The static list, with names resolved from time to time; the last good answer stays."""

    def __init__(self, urls: Mapping[str, Sequence[str]]) -> None:
        self._urls = urls
        self._addresses: dict[str, tuple[str, ...]] = {}
        self._resolved = float("-inf")

    async def resolve(self) -> None:
        """Look up the names again if it is time."""
        names = {url for urls in self._urls.values() for url in urls if url.startswith(DNS)}
        now = asyncio.get_running_loop().time()
        if not names or now - self._resolved < RESOLVE_EVERY_S:
            return
        self._resolved = now
        for url in sorted(names):
            try:
                self._addresses[url] = await addresses(url)
            except OSError as error:
                log.warning("workers not resolved", url=url, error=str(error))

    def added_to(self, snapshot: Snapshot) -> Snapshot:
        """The registry's snapshot with these workers; models that only they serve appear too."""
        if not self._urls:
            return snapshot
        models, workers = dict(snapshot.models), list(snapshot.workers)
        for name, urls in self._urls.items():
            models.setdefault(name, served_elsewhere(name))
            found = [a for url in urls for a in self._addresses.get(url, _plain(url))]
            workers += [
                WorkerState(id=f"url-{url}", model=name, url=url, status="ready", managed=False)
                for url in dict.fromkeys(found)
            ]
        return snapshot.model_copy(update={"models": models, "workers": tuple(workers)})

    def without(self, snapshot: Snapshot) -> Snapshot:
        """The snapshot less what `added_to` added."""
        kept = tuple(worker for worker in snapshot.workers if not worker.id.startswith("url-"))
        return snapshot.model_copy(update={"workers": kept})


async def addresses(url: str) -> tuple[str, ...]:
    """One URL for each address of a `dns+http://name:port`, sorted.

    Raises:
        OSError: the name has no address.
    """
    parts = urlsplit(url.removeprefix(DNS))
    port = parts.port or 80
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(parts.hostname, port, type=socket.SOCK_STREAM)
    hosts = {str(address[4][0]) for address in found}
    return tuple(
        f"{parts.scheme}://{f'[{host}]' if ':' in host else host}:{port}{parts.path}"
        for host in sorted(hosts)
    )


def _plain(url: str) -> tuple[str, ...]:
    return () if url.startswith(DNS) else (url,)


def served_elsewhere(name: str) -> ModelEntry:
    """The entry of a model that has no checkpoint here: nothing is known of it but its name."""
    return ModelEntry(name=name, path="", variant="original", params=0, flops=_UNKNOWN, created=0.0)
