"""Structured logs: one JSON object a line, or text for a person at a terminal.

What a request or a job is known by (`bind`) stands in every line that is written on its behalf, in
tasks and threads that it starts too. Other libraries' log records take the same way out.
"""

from __future__ import annotations

import json
import logging
import random
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from types import MappingProxyType
from typing import IO, Literal

import msgspec
import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

Level = Literal["debug", "info", "warning", "error"]
Format = Literal["auto", "json", "text"]
"""`auto` is text on a terminal, else JSON."""

_BOUND: ContextVar[Mapping[str, str]] = ContextVar("bound", default=MappingProxyType({}))
_REQUEST_ID = re.compile(rb"[A-Za-z0-9._:/+=-]{1,128}")


def configure_logging(
    file: Path | None = None, *, level: Level = "info", form: Format = "auto"
) -> IO[str]:
    """Log to standard output, or append to a file. Other libraries' records: from `warning` on.

    Returns:
        What is written to.
    """
    if file is not None:
        file.parent.mkdir(parents=True, exist_ok=True)
    output = sys.stdout if file is None else file.open("a", buffering=1)
    text = is_text(output, form)
    shared: list[Processor] = [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        add_bound,
    ]
    last = [_renderer(output, text=text)]
    if not text:
        last.insert(0, structlog.processors.format_exc_info)
    structlog.configure(
        processors=[*shared, *last],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.WriteLoggerFactory(output),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(output)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, _name_logger],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last],
        )
    )
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)
    return output


def is_text(output: IO[str], form: Format) -> bool:
    """Whether lines are for a person."""
    return form == "text" or (form == "auto" and output.isatty())


def _renderer(output: IO[str], *, text: bool) -> Processor:
    if text:
        return structlog.dev.ConsoleRenderer(
            colors=output.isatty(),
            # Rich's would show local variables: requests, images, keys.
            exception_formatter=structlog.dev.plain_traceback,
        )
    return structlog.processors.JSONRenderer(serializer=_encode)


_ENCODER = msgspec.json.Encoder(enc_hook=repr)


def _encode(event: EventDict, **_: object) -> str:
    """As JSON; several times faster than the standard library, as every request writes a line."""
    try:
        return _ENCODER.encode(event).decode()
    except UnicodeEncodeError:  # half a surrogate pair, quoted from somewhere
        return json.dumps(event, default=repr)


def _name_logger(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """Which library says it."""
    record = event.get("_record")
    if record is not None:
        event["logger"] = record.name
    return event


def add_bound(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """A processor: what is bound to the present task or thread."""
    for name, value in _BOUND.get().items():
        event.setdefault(name, value)
    return event


def bind(**values: str) -> None:
    """Say whose lines follow, in this task and in what it starts; replaces what was bound."""
    _BOUND.set(values)


def bound() -> Mapping[str, str]:
    """What is bound to the present task or thread."""
    return _BOUND.get()


@contextmanager
def bound_to(**values: str) -> Iterator[None]:
    """Bind until the block ends."""
    token = _BOUND.set(values)
    try:
        yield
    finally:
        _BOUND.reset(token)


def request_id(given: bytes | None) -> str:
    """The client's `x-request-id`, if it is one that may stand in logs and headers; else a new one."""
    if given is not None and _REQUEST_ID.fullmatch(given):
        return given.decode()
    return f"{random.getrandbits(128):032x}"
