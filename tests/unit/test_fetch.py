"""Which addresses images may come from; no network is touched."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.errors import InvalidRequestError
from service.gateway.body import ByteBudget, Holding
from service.gateway.fetch import (
    ForbiddenAddressError,
    GuardedResolver,
    ImageFetcher,
    is_public,
)
from service.settings import Settings

PRIVATE = [
    "127.0.0.1", "127.8.8.8", "0.0.0.0", "10.0.0.1", "172.16.0.1", "192.168.1.1", "100.64.0.1",
    "169.254.169.254", "224.0.0.1", "240.0.0.1", "255.255.255.255", "198.18.0.1", "192.0.2.1",
    "::", "::1", "fe80::1", "fc00::1", "fd00:ec2::254", "ff02::1", "2001:db8::1",
    "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::127.0.0.1", "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe",
    "2002:7f00:1::", "2002:a00:1::1", "2001:0:7f00:1::", "fe80::1%eth0",
]  # fmt: skip


@pytest.mark.parametrize("address", PRIVATE)
def test_addresses_that_only_we_can_reach_are_refused(address: str) -> None:
    assert not is_public(ipaddress.ip_address(address))


@pytest.mark.parametrize("address", ["93.184.216.34", "1.1.1.1", "2606:4700::1111"])
def test_public_addresses_pass(address: str) -> None:
    assert is_public(ipaddress.ip_address(address))


@given(st.ip_addresses(v=4))
def test_an_address_within_an_address_is_judged_by_the_inner_one(
    inner: ipaddress.IPv4Address,
) -> None:
    number = int(inner)
    for outer in (0xFFFF << 32, 0x64FF9B << 96):
        mapped = ipaddress.IPv6Address(outer | number)
        assert is_public(mapped) == is_public(inner)
    assert is_public(ipaddress.IPv6Address(0x2002 << 112 | number << 80)) == is_public(inner)


def answer(monkeypatch: pytest.MonkeyPatch, *addresses: str) -> None:
    """Let every name have these addresses."""

    async def getaddrinfo(self: object, host: str, port: int, **_: Any) -> list[Any]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (a, port)) for a in addresses]

    monkeypatch.setattr(asyncio.BaseEventLoop, "getaddrinfo", getaddrinfo)


async def test_the_connection_goes_to_the_very_address_that_was_checked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answer(monkeypatch, "93.184.216.34")
    (found,) = await GuardedResolver(()).resolve("example.org", 80)
    assert found["host"] == "93.184.216.34"
    assert found["flags"] & socket.AI_NUMERICHOST


async def test_one_private_address_among_public_ones_is_an_attack(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answer(monkeypatch, "93.184.216.34", "10.0.0.1")
    with pytest.raises(ForbiddenAddressError):
        await GuardedResolver(()).resolve("rebind.example", 80)


async def test_an_operator_may_allow_a_network(monkeypatch: pytest.MonkeyPatch) -> None:
    answer(monkeypatch, "10.1.2.3")
    resolver = GuardedResolver((ipaddress.ip_network("10.1.0.0/16"),))
    assert [r["host"] for r in await resolver.resolve("store.internal", 80)] == ["10.1.2.3"]


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1/a", "http://[::1]/a", "http://[::ffff:127.0.0.1]/", "http://2130706433/",
        "http://0x7f.1/", "http://localhost/", "http://127.0.0.1.:80/", "http://user@127.0.0.1/",
        "http://169.254.169.254/latest/meta-data", "http:///a", "http://[fe80::1%25lo]/",
    ],
)  # fmt: skip
async def test_however_a_private_host_is_written_it_is_refused(url: str) -> None:
    fetcher = ImageFetcher(Settings(), ByteBudget(1000))
    with pytest.raises(InvalidRequestError, match=r"not public|could not be fetched"):
        await fetcher.fetch(url, "image", Holding(ByteBudget(1000)))
    await fetcher.close()
