"""Active health checks: every worker is asked `/health` again and again."""

from __future__ import annotations

import asyncio

from service.gateway.http1 import BrokenError
from service.gateway.origin import ConnectError, Origin, open_exchange
from service.gateway.pool import Slot
from service.settings import Settings

SOON_S = 0.1
_LIMIT = 64 * 1024


class Prober:
    """One task a worker, for as long as the worker is known."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._tasks: dict[Slot, asyncio.Task[None]] = {}

    def add(self, slot: Slot) -> None:
        """Begin to probe."""
        self._tasks[slot] = asyncio.get_running_loop().create_task(self._watch(slot))

    def remove(self, slot: Slot) -> None:
        """A worker that is gone: what it still has in hand goes on as it can."""
        task = self._tasks.pop(slot, None)
        if task is not None:
            task.cancel()

    async def close(self) -> None:
        """Stop, and wait until all connections are closed."""
        tasks = list(self._tasks.values())
        for slot in list(self._tasks):
            self.remove(slot)
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _watch(self, slot: Slot) -> None:
        # An own origin: a probe must not wait behind, or end, a client's connection.
        origin = Origin(slot.origin.url)
        try:
            while True:
                await self._pause(slot)
                await self._probe(slot, origin)
        finally:
            origin.close()

    async def _pause(self, slot: Slot) -> None:
        """Until the next probe is due; not long if a request has just met with trouble."""
        try:
            async with asyncio.timeout(self._settings.probe_interval_s):
                await slot.suspected.wait()
        except TimeoutError:
            return
        slot.suspected.clear()
        await asyncio.sleep(SOON_S)

    async def _probe(self, slot: Slot, origin: Origin) -> None:
        try:
            async with asyncio.timeout(self._settings.probe_timeout_s):
                connection = await open_exchange(origin, "GET", "/health")
                try:
                    await connection.read(_LIMIT)
                finally:
                    connection.release()
        except ConnectError:
            slot.refused()
        except (BrokenError, TimeoutError):
            slot.probed(answered=False)
        else:
            # A server without /health says 404, and lives.
            slot.probed(answered=connection.status < 500)
