"""The first to see a request: keys and limits for every path, then the hot endpoints, then FastAPI."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

from starlette.types import ASGIApp, Receive, Scope, Send

from service.errors import ServiceError
from service.gateway.body import limited
from service.gateway.errors import error_body, error_headers
from service.gateway.state import Gateway
from service.gateway.trail import Trail

Endpoint = Callable[[Scope, Receive, Send], Awaitable[None]]


class Front:
    """An ASGI application in front of another."""

    def __init__(
        self, app: ASGIApp, gateway: Callable[[], Gateway], hot: Mapping[str, Endpoint]
    ) -> None:
        self._app, self._gateway, self._hot = app, gateway, hot

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        gateway, headers = self._gateway(), dict(scope["headers"])
        trail = Trail(scope, headers, send, gateway.tracing)
        try:
            await self._serve(gateway, headers, scope, receive, trail)
        finally:
            trail.close(gateway.access, getattr(scope.get("route"), "path", None))

    async def _serve(
        self,
        gateway: Gateway,
        headers: Mapping[bytes, bytes],
        scope: Scope,
        receive: Receive,
        trail: Trail,
    ) -> None:
        path, send = scope["path"], trail.send
        try:
            lease = gateway.keys.admit(path, headers)
        except ServiceError as error:
            trail.error = error.code
            gateway.metrics.refused.labels(error.code).inc()
            told = error_headers(error)
            await send({"type": "http.response.start", "status": error.status, "headers": told})
            await send({"type": "http.response.body", "body": error_body(error)})
            return
        if lease.name is not None:
            scope["state"]["key_name"] = trail.key = lease.name
        with lease:
            endpoint = self._hot.get(path) if scope["method"] == "POST" else None
            if endpoint is not None:
                await endpoint(scope, receive, send)
            else:
                limit = gateway.settings.max_body_bytes
                await self._app(scope, limited(receive, limit), send)

    @property
    def app(self) -> ASGIApp:
        """What is behind it."""
        return self._app

    def drain(self) -> None:
        """The gateway is about to stop."""
        self._gateway().drain()
