"""Fetch images by URL, from public addresses only.

A name is resolved once and the connection goes to an address that was checked (no second look-up that
could answer otherwise); every redirect is checked anew. Size, time and redirects are bounded.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Sequence
from typing import Any
from urllib.parse import urljoin, urlsplit

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

from service.errors import InvalidRequestError
from service.gateway.ask import ImagePlace
from service.gateway.body import ByteBudget, Holding
from service.gateway.images import ImageLimits, check_image, data_url
from service.settings import Settings

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
# Addresses that carry an IPv4 address: what counts is that one. RFC 6052 and RFC 8215.
_EMBEDDING = (ipaddress.IPv6Network("64:ff9b::/96"), ipaddress.IPv6Network("64:ff9b:1::/48"))
_COMPATIBLE = ipaddress.IPv6Network("::/96")


class ForbiddenAddressError(OSError):
    """A name or URL leads to an address that images may not come from."""


def is_public(address: Address) -> bool:
    """Whether an address is one that anybody on the internet could mean."""
    if isinstance(address, ipaddress.IPv6Address):
        inner = _embedded(address)
        if inner is not None:
            return is_public(inner)
        if address.scope_id or address in _COMPATIBLE:
            return False
    return address.is_global and not (
        address.is_multicast or address.is_reserved or address.is_unspecified
    )


def _embedded(address: ipaddress.IPv6Address) -> ipaddress.IPv4Address | None:
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if address.sixtofour is not None:
        return address.sixtofour
    if address.teredo is not None:
        return address.teredo[1]
    if any(address in network for network in _EMBEDDING):
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return None


class GuardedResolver(AbstractResolver):
    """Resolves names to allowed addresses only; aiohttp connects to exactly what this returns."""

    def __init__(self, allowed: tuple[Network, ...]) -> None:
        self._allowed = allowed

    def permits(self, address: Address) -> bool:
        """Whether images may come from an address."""
        return is_public(address) or any(
            address in network for network in self._allowed if network.version == address.version
        )

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """All addresses of a name.

        Raises:
            ForbiddenAddressError: any of them is not allowed; a mixed answer is an attack.
            OSError: the name has none.
        """
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM, family=family)
        results: list[ResolveResult] = []
        for kind, _, protocol, _, address in found:
            ip = ipaddress.ip_address(str(address[0]))
            if not self.permits(ip):
                raise ForbiddenAddressError("its address is not public")
            results.append(
                ResolveResult(
                    hostname=host,
                    host=str(ip),
                    port=port,
                    family=kind,
                    proto=protocol,
                    flags=socket.AI_NUMERICHOST,
                )
            )
        return results

    async def close(self) -> None:
        """Nothing is held."""


class ImageFetcher:
    """Fetches images; one session for the gateway's life."""

    def __init__(self, settings: Settings, budget: ByteBudget) -> None:
        self._settings, self._budget = settings, budget
        networks = tuple(ipaddress.ip_network(n) for n in settings.image_fetch_networks)
        self._resolver = GuardedResolver(networks)
        self._session: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        """End all connections."""
        if self._session is not None:
            await self._session.close()

    async def fetch_all(
        self, places: Sequence[ImagePlace], holding: Holding
    ) -> list[tuple[ImagePlace, str]]:
        """A request's images as data URLs; one after another, so that it has one connection.

        Raises:
            InvalidRequestError: one cannot be fetched, or is no picture of bearable size.
            OverloadedError: the gateway's byte budget is used up.
        """
        limits = ImageLimits(self._settings.max_image_bytes, self._settings.max_image_pixels)
        found = []
        for place in places:
            content = await self.fetch(place.url, place.name, holding)
            found.append((place, data_url(content, check_image(content, place.name, limits))))
        return found

    async def fetch(self, url: str, place: str, holding: Holding) -> bytes:
        """The bytes behind a URL; they are counted in `holding`.

        Raises:
            InvalidRequestError: names `place`, and why it could not be fetched. What a private server
                said is not told.
            OverloadedError: the gateway's byte budget is used up.
        """
        try:
            async with asyncio.timeout(self._settings.image_fetch_timeout_s):
                return await self._follow(url, place, holding)
        except TimeoutError as error:
            limit = self._settings.image_fetch_timeout_s
            raise _bad(place, f"could not be fetched within {limit:g} s") from error
        except ForbiddenAddressError as error:
            raise _bad(place, "leads to an address that is not public") from error
        except (aiohttp.ClientError, OSError, ValueError) as error:
            if isinstance(getattr(error, "os_error", error.__cause__), ForbiddenAddressError):
                raise _bad(place, "leads to an address that is not public") from error
            raise _bad(place, "could not be fetched") from error

    async def _follow(self, url: str, place: str, holding: Holding) -> bytes:
        for _ in range(self._settings.image_fetch_redirects + 1):
            self._check(url)
            async with self._open().get(url, allow_redirects=False) as response:
                if response.status in _REDIRECTS and "location" in response.headers:
                    url = urljoin(url, response.headers["location"])
                    continue
                if response.status != 200:
                    raise _bad(place, f"could not be fetched: status {response.status}")
                return await self._read(response, place, holding)
        raise _bad(place, f"has more than {self._settings.image_fetch_redirects} redirects")

    def _check(self, url: str) -> None:
        """Scheme and, where the host is written as an address, that address."""
        parts = urlsplit(url)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise ForbiddenAddressError("not http")
        try:
            address = ipaddress.ip_address(parts.hostname)
        except ValueError:
            return  # a name: the resolver judges
        if not self._resolver.permits(address):
            raise ForbiddenAddressError("its address is not public")

    async def _read(self, response: Any, place: str, holding: Holding) -> bytes:
        limit = self._settings.max_image_bytes
        chunks: list[bytes] = []
        size = 0
        async for chunk in response.content.iter_chunked(64 * 1024):
            size += len(chunk)
            if size > limit:
                raise _bad(place, f"is larger than {limit} bytes")
            # The bytes themselves, and as base64 in the request that goes on.
            holding.add(len(chunk) * 7 // 3)
            chunks.append(chunk)
        return b"".join(chunks)

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            connector = aiohttp.TCPConnector(
                resolver=self._resolver, limit=64, limit_per_host=8, use_dns_cache=False,
                force_close=True,
            )  # fmt: skip
            self._session = aiohttp.ClientSession(
                connector=connector,
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                headers={"accept": "image/*", "accept-encoding": "identity",
                         "user-agent": "infoprune"},
            )  # fmt: skip
        return self._session


def _bad(place: str, what: str) -> InvalidRequestError:
    return InvalidRequestError(f"{place} {what}.", param=place, code="invalid_image")
