"""The gateway's process: `python -m service.gateway`."""

from __future__ import annotations

import uvicorn

from service.gateway.app import create_app
from service.settings import Settings
from service.telemetry import configure_logging


def main() -> None:
    """Serve until SIGTERM."""
    settings = Settings()
    configure_logging()
    uvicorn.run(
        create_app(settings),
        host=settings.host,
        port=settings.port,
        log_level="warning",
        access_log=False,
        timeout_graceful_shutdown=5,
    )


if __name__ == "__main__":
    main()
