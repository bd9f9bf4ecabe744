"""The gateway's process: `python -m service.gateway`."""

from __future__ import annotations

import socket

import uvicorn
from prometheus_client import disable_created_metrics

from service.command import process_settings
from service.gateway.app import create_app
from service.gateway.front import Front
from service.settings import Settings
from service.telemetry import configure_logging

FORCED_S = 3
"""After the drain: time for the last error events to be written."""


class DrainingServer(uvicorn.Server):
    """On SIGTERM: takes nothing new, and gives what is in hand its time."""

    def __init__(self, config: uvicorn.Config, app: Front) -> None:
        super().__init__(config)
        self._front = app

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """uvicorn's, told to the gateway first."""
        self._front.drain()
        await super().shutdown(sockets)


def main() -> None:
    """Serve until SIGTERM."""
    settings = process_settings()
    configure_logging(level=settings.log_level, form=settings.log_format)
    disable_created_metrics()  # type: ignore[no-untyped-call]  # a series each that nobody reads
    app = create_app(settings)
    config = uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        log_config=None,  # ours takes its records too
        log_level="warning",
        access_log=False,
        proxy_headers=False,
        date_header=False,
        server_header=False,
        backlog=4096,
        timeout_graceful_shutdown=int(settings.drain_timeout_s) + FORCED_S,
    )
    DrainingServer(config, app).run(sockets=shared_port(settings))


def shared_port(settings: Settings) -> list[socket.socket] | None:
    """A socket of this process's own on the port that several share; None where it is the only one.

    The kernel spreads connections over all that listen (SO_REUSEPORT).
    """
    if settings.gateway_processes == 1:
        return None
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    listener.bind((settings.host, settings.port))
    return [listener]


if __name__ == "__main__":
    main()
