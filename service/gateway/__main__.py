"""The gateway's process: `python -m service.gateway`."""

from __future__ import annotations

import socket

import uvicorn

from service.gateway.app import create_app
from service.settings import Settings
from service.telemetry import configure_logging


def main() -> None:
    """Serve until SIGTERM."""
    settings = Settings()
    configure_logging()
    config = uvicorn.Config(
        create_app(settings),
        host=settings.host,
        port=settings.port,
        log_level="warning",
        access_log=False,
        timeout_graceful_shutdown=5,
    )
    uvicorn.Server(config).run(sockets=shared_port(settings))


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
