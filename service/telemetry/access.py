"""One line of the log for each request, made so that it costs little beside the request.

A line is encoded at once and written with others a moment later, in one piece: structlog's way takes
several times as long. A process that is killed takes the last moment's lines along.
"""

from __future__ import annotations

import sys
import time

import msgspec
import structlog

from service.settings import Settings
from service.telemetry.logs import is_text

log = structlog.get_logger()
MOST_PENDING = 512
_ENCODE = msgspec.json.Encoder().encode


class Line(msgspec.Struct, omit_defaults=True):
    """What is told of a request; what is not known is left out."""

    timestamp: str
    level: str
    event: str
    request_id: str
    method: str
    path: str
    status: int
    latency_s: float
    """From its arrival to its end, in this process."""
    trace_id: str | None = None
    key: str | None = None
    """Name of the API key."""
    alias: str | None = None
    model: str | None = None
    variant: str | None = None
    worker: str | None = None
    """The one that was asked last."""
    attempts: int | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    first_token_s: float | None = None
    """Of a stream, from arrival."""
    error: str | None = None
    """Code of the error that ended it."""


class AccessLog:
    """JSON lines to standard output; call `flush` every moment."""

    def __init__(self) -> None:
        self._pending: list[bytes] = []
        self._second, self._prefix = -1, ""

    def tell(self, line: Line) -> None:
        """A request is over."""
        self._pending.append(_ENCODE(line))
        if len(self._pending) >= MOST_PENDING:
            self.flush()

    def flush(self) -> None:
        """Write what was told."""
        if self._pending:
            lines, self._pending = self._pending, []
            sys.stdout.write(b"\n".join(lines).decode("utf-8", "replace") + "\n")
            sys.stdout.flush()

    def now(self) -> str:
        """UTC, with microseconds; the part up to the second is made once a second."""
        now = time.time()
        second = int(now)
        if second != self._second:
            self._second = second
            self._prefix = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
        return f"{self._prefix}.{int((now - second) * 1e6):06d}Z"


class TextAccessLog(AccessLog):
    """For a person at a terminal: as all other lines are."""

    def tell(self, line: Line) -> None:
        """A request is over."""
        known = {k: v for k, v in msgspec.structs.asdict(line).items() if v is not None}
        log.info(known.pop("event"), **{k: known[k] for k in known.keys() - {"level", "timestamp"}})


def open_access_log(settings: Settings) -> AccessLog | None:
    """What the settings ask for: None where lines of level info are not wanted."""
    if settings.log_level not in {"debug", "info"}:
        return None
    return TextAccessLog() if is_text(sys.stdout, settings.log_format) else AccessLog()
