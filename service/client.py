"""A small client of the gateway, for the command line."""

from __future__ import annotations

import getpass
import json
import socket
import urllib.error
import urllib.request
from http import HTTPStatus
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
            ServiceError: the gateway refused, or cannot be reached.
        """
        headers = {"content-type": "application/json", "x-infoprune-actor": _actor()}
        if self._key:
            headers["authorization"] = f"Bearer {self._key}"
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self._url + path, data, headers, method=method)  # noqa: S310
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT_S) as response:  # noqa: S310
                return json.loads(response.read())
        except urllib.error.HTTPError as error:
            with error:
                raise ServiceError(_sentence(error.read(), error.code)) from error
        except (OSError, ValueError) as error:
            raise ServiceError(
                f"No gateway answers at {self._url}; start one with `infoprune serve`, or give --url."
            ) from error


def _sentence(content: bytes, status: int) -> str:
    try:
        said = str(json.loads(content)["error"]["message"])
        if status != HTTPStatus.UNAUTHORIZED:
            return said
        return f"{said.removesuffix('.')}; commands show the one in INFOPRUNE_API_KEY."
    except (ValueError, LookupError, TypeError):
        return f"The gateway answered with status {status}."


def _actor() -> str:
    try:
        return f"{getpass.getuser()}@{socket.gethostname()}"
    except (KeyError, OSError):
        return "unknown"
