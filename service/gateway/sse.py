"""Server-sent events of a streamed completion: see usage and first token, hide what was added."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

import msgspec

_END = re.compile(rb"\r?\n\r?\n")
_FIRST = (b"data:", b":", b"event:", b"id:", b"retry:")


class Usage(msgspec.Struct):
    """Token counts of a completion."""

    prompt_tokens: int = 0
    completion_tokens: int | None = 0


class Said(msgspec.Struct):
    """A message, or what a chunk adds to it."""

    content: str | None = None


class CompletionChoice(msgspec.Struct):
    """One of the answers, of a chat or of a plain completion."""

    message: Said | None = None
    delta: Said | None = None
    text: str | None = None

    def said(self) -> str:
        """Its text."""
        said = self.message or self.delta
        return (said.content if said else self.text) or ""


class Completion(msgspec.Struct):
    """The parts of a completion, or of a chunk of it, that are counted."""

    choices: list[CompletionChoice] = []
    usage: Usage | None = None


COMPLETION = msgspec.json.Decoder(Completion)


def looks_like_events(data: bytes) -> bool:
    """Whether the first bytes of an answer can be those of an event stream."""
    return data.lstrip().startswith(_FIRST)


@dataclass
class UsageFilter:
    """Passes events on at once; drops the usage event if the client did not ask for it.

    A chunk of whole events that names no usage goes through as it came, unparsed.
    """

    keep_usage: bool
    keep_text: bool = False
    """Whether `text` is gathered, which costs a parse of each event."""
    usage: Usage | None = None
    content_seen: bool = False
    finished: bool = False
    text: list[str] = field(default_factory=list)
    _rest: bytes = field(default=b"", repr=False)

    def feed(self, data: bytes) -> bytes:
        """What of `data` (and of what was held back) goes to the client now."""
        if not self._rest and not self.keep_text and self.content_seen:
            whole = data.endswith(b"\n\n") and b'"usage"' not in data and b"[DONE]" not in data
            if whole:
                return data
        data = self._rest + data
        passed: list[bytes] = []
        start = 0
        for end in _END.finditer(data):
            event = data[start : end.end()]
            start = end.end()
            if self._passes(event):
                passed.append(event)
        self._rest = data[start:]
        return b"".join(passed)

    def flush(self) -> bytes:
        """What is left at the end, an incomplete event."""
        rest, self._rest = self._rest, b""
        return rest

    def _passes(self, event: bytes) -> bool:
        if not event.startswith(b"data:"):
            return True
        payload = event[5:].strip()
        if payload == b"[DONE]":
            self.finished = True
            return True
        try:
            chunk = COMPLETION.decode(payload)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return True
        if chunk.choices:
            # The first chunk only names the role; the second has the first token.
            self.content_seen = self.content_seen or b'"role"' not in event
            if self.keep_text:
                self.text.append(chunk.choices[0].said())
        if chunk.usage is not None:
            self.usage = chunk.usage
            return self.keep_usage or bool(chunk.choices)
        return True
