"""Gateways tell each other how far API keys' limits are used, off every request's path."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import structlog
from redis.exceptions import RedisError

from service.gateway.auth import Held, Keyring
from service.gateway.ledger import Ledger
from service.routing.shares import EXCHANGE_S, STALE_S

log = structlog.get_logger()


class Sharing:
    """One gateway's part of it."""

    def __init__(self, keys: Keyring, ledger: Ledger) -> None:
        self._keys, self._ledger = keys, ledger
        self._heard_at = float("-inf")
        self._alone = False

    async def run(self) -> None:
        """Exchange until cancelled."""
        self._heard_at = asyncio.get_running_loop().time()
        while True:
            await asyncio.sleep(EXCHANGE_S)
            try:
                await self.exchange()
            except Exception:  # the next exchange must come, whatever this one met
                log.exception("limits not exchanged")

    async def exchange(self) -> None:
        """Tell and hear once; with nobody to be heard for a while, go on with the own share."""
        if not self._keys.limited:
            return
        now = asyncio.get_running_loop().time
        held = self._keys.in_use()
        spent = [one.spent for one in held]
        uses = [one.use() for one in held]
        try:
            present, said = await asyncio.to_thread(self._ledger.exchange, uses)
        except RedisError as error:
            _take_back(held, spent)
            if now() - self._heard_at > STALE_S:
                if not self._alone:
                    log.warning("limits held alone", error=type(error).__name__)
                self._alone = True
                self._keys.heard_nothing()
        else:
            self._heard_at, self._alone = now(), False
            self._keys.heard(held, said, present)

    async def leave(self) -> None:
        """This gateway stops."""
        with suppress(RedisError):
            await asyncio.to_thread(self._ledger.leave)


def _take_back(held: list[Held], spent: list[int]) -> None:
    """What was not heard is told again."""
    for one, count in zip(held, spent, strict=True):
        one.spent += count
