"""A small client of the gateway, for the command line."""

from __future__ import annotations

import getpass
import json
import socket
import urllib.error
import urllib.request
from http import HTTPStatus
from http.client import HTTPException
from typing import Any

from service.errors import ServiceError

TIMEOUT_S = 30.0


class GatewayClient:
    """Asks a gateway; its errors become ours, in the gateway's own sentence."""

    def __init__(self, url: str, *, api_key: str | None) -> None:
        self._url, self._key = url.rstrip("/"), api_key

    def call(self, method: str, path: str, body: Any = None) -> Any:
        """The answer's JSON.

        Raises:
            ServiceError: the gateway refused, or cannot be reached; `status` is that of its refusal.
        """
        content = self._ask(method, path, None if body is None else json.dumps(body).encode())
        try:
            return json.loads(content)
        except ValueError as error:
            raise self._no_gateway() from error

    def text(self, path: str) -> str:
        """The answer to a GET as text.

        Raises:
            ServiceError: as in `call`.
        """
        return self._ask("GET", path).decode(errors="replace")

    def _ask(self, method: str, path: str, data: bytes | None = None) -> bytes:
        headers = {"content-type": "application/json", "x-infoprune-actor": _actor()}
        if self._key:
            headers["authorization"] = f"Bearer {self._key}"
        try:
            request = urllib.request.Request(self._url + path, data, headers, method=method)  # noqa: S310
            with urllib.request.urlopen(request, timeout=TIMEOUT_S) as response:  # noqa: S310
                return bytes(response.read())
        except urllib.error.HTTPError as error:
            with error:
                refused = ServiceError(_sentence(error.read(), error.code))
                refused.status = error.code
                raise refused from error
        except (OSError, ValueError, HTTPException) as error:
            raise self._no_gateway() from error

    def _no_gateway(self) -> ServiceError:
        return ServiceError(
            f"No gateway answers at {self._url}; start one with `infoprune serve`, or give --url."
        )


def _sentence(content: bytes, status: int) -> str:
    try:
        said = str(json.loads(content)["error"]["message"])
        if status != HTTPStatus.UNAUTHORIZED:
            return said
        return (
            f"{said.removesuffix('.')}; commands send the one in INFOPRUNE_API_KEY, and a service's "
            "first lies in admin-key in its run directory, by default runs/service."
        )
    except (ValueError, LookupError, TypeError):
        return f"The gateway answered with status {status}."


def _actor() -> str:
    try:
        return f"{getpass.getuser()}@{socket.gethostname()}"
    except (KeyError, OSError):
        return "unknown"
