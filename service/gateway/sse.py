"""Server-sent events of a streamed chat completion: see usage and first token, hide what was added."""

from __future__ import annotations

from dataclasses import dataclass, field

import msgspec

SEPARATOR = b"\n\n"


class Usage(msgspec.Struct):
    """Token counts of a completion."""

    prompt_tokens: int = 0
    completion_tokens: int | None = 0


class Completion(msgspec.Struct):
    """The parts of a completion, or of a chunk of it, that are counted."""

    choices: list[msgspec.Raw] = []
    usage: Usage | None = None


@dataclass
class UsageFilter:
    """Splits a byte stream into events; drops the usage event if the client did not ask for it."""

    keep_usage: bool
    usage: Usage | None = None
    content_seen: bool = False
    finished: bool = False
    _rest: bytes = field(default=b"", repr=False)
    _decoder: msgspec.json.Decoder[Completion] = field(
        default_factory=lambda: msgspec.json.Decoder(Completion), repr=False
    )

    def feed(self, data: bytes) -> bytes:
        """What of `data` (and of what was held back) goes to the client now."""
        *events, self._rest = (self._rest + data).split(SEPARATOR)
        return b"".join(event + SEPARATOR for event in events if self._passes(event))

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
            chunk = self._decoder.decode(payload)
        except msgspec.DecodeError:
            return True
        if chunk.choices:
            # The first chunk only names the role; the second has the first token.
            self.content_seen = self.content_seen or b'"role"' not in bytes(chunk.choices[0])
        if chunk.usage is not None:
            self.usage = chunk.usage
            return self.keep_usage or bool(chunk.choices)
        return True
