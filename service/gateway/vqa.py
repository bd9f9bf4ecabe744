"""`POST /v1/vqa`: a picture and a question as a form, a short answer as JSON.

    curl -F image=@cat.png -F question='What is this?' -F model=NAME localhost:8080/v1/vqa

It becomes a chat request, and goes the way of one.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
from starlette.datastructures import Headers, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.types import Message, Receive, Scope, Send

from compressor.evaluate.example import SUFFIX
from service.errors import InvalidRequestError, ServiceError
from service.gateway.ask import CHAT
from service.gateway.body import ClientDisconnect, Holding, receive_body
from service.gateway.errors import error_body, error_headers
from service.gateway.images import ImageLimits, check_image, data_url
from service.gateway.sse import COMPLETION
from service.gateway.state import Gateway

MAX_TOKENS = 64
MAX_QUESTION = 4096
_FIELDS = ("image", "question", "model")


class Vqa:
    """The endpoint, in front of the one for chats."""

    def __init__(
        self,
        gateway: Callable[[], Gateway],
        chat: Callable[[Scope, Receive, Send], Awaitable[None]],
    ) -> None:
        self._gateway, self._chat = gateway, chat

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        gateway = self._gateway()
        holding = Holding(gateway.bytes)
        try:
            headers = dict(scope["headers"])
            limit = gateway.settings.max_body_bytes
            form = await receive_body(receive, headers, limit, holding)
            body = await _chat_body(gateway, scope, form)
        except ClientDisconnect:
            return
        except ServiceError as error:
            await _send(send, error.status, error_headers(error), error_body(error))
            return
        finally:
            holding.close()
        answer = _Answer(send)
        inner = {**scope, "path": CHAT, "headers": _without_length(scope["headers"])}
        await self._chat(inner, _after(body, receive), answer.take)


async def _chat_body(gateway: Gateway, scope: Scope, form: bytes) -> bytes:
    """The chat request that a form asks for.

    Raises:
        InvalidRequestError: a field is missing or wrong.
    """
    fields = await _fields(scope, form)
    settings = gateway.settings
    limits = ImageLimits(settings.max_image_bytes, settings.max_image_pixels)
    url = data_url(fields["image"], check_image(fields["image"], "image", limits))
    content = [
        {"type": "image_url", "image_url": {"url": url}},
        {"type": "text", "text": _text(fields, "question") + SUFFIX},
    ]
    return msgspec.json.encode(
        {
            "model": _text(fields, "model"),
            "messages": [{"role": "user", "content": content}],
            "max_tokens": MAX_TOKENS,
            "temperature": 0,
        }
    )


async def _fields(scope: Scope, form: bytes) -> dict[str, bytes]:
    """The form's fields as bytes.

    Raises:
        InvalidRequestError: it is no form of these three fields.
    """
    headers = Headers(scope=scope)
    usage = "POST a form: -F image=@FILE -F question=TEXT -F model=NAME"
    if not headers.get("content-type", "").startswith("multipart/form-data"):
        raise InvalidRequestError(f"The body is not multipart/form-data; {usage}.")

    async def stream() -> Any:
        yield form

    parser = MultiPartParser(headers, stream(), max_files=1, max_fields=8, max_part_size=64 * 1024)
    try:
        parsed = await parser.parse()
    except (MultiPartException, KeyError, ValueError, LookupError) as error:
        raise InvalidRequestError(f"The form cannot be read; {usage}.") from error
    found: dict[str, bytes] = {}
    for name, value in parsed.multi_items():
        if isinstance(value, UploadFile):
            found[name] = await value.read()
            await value.close()
        else:
            found[name] = value.encode("utf-8", "surrogateescape")
    for name in _FIELDS:
        if not found.get(name):
            raise InvalidRequestError(f"The field {name!r} is missing; {usage}.", param=name)
    return found


def _text(fields: dict[str, bytes], name: str) -> str:
    if len(fields[name]) > MAX_QUESTION:
        raise InvalidRequestError(f"{name} is over {MAX_QUESTION} bytes.", param=name)
    return fields[name].decode("utf-8", "replace")


def _without_length(headers: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    return [(k, v) for k, v in headers if k not in {b"content-length", b"content-type"}]


def _after(body: bytes, receive: Receive) -> Receive:
    """A `receive` that gives `body` and then what the client does, which is to leave or not."""
    given = False

    async def receive_then() -> Message:
        nonlocal given
        if not given:
            given = True
            return {"type": "http.request", "body": body, "more_body": False}
        return await receive()

    return receive_then


class _Answer:
    """Takes a chat completion and sends the short answer; errors go on as they are."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._start: Message = {}

    async def take(self, message: Message) -> None:
        """ASGI's `send`. The chat endpoint sends a whole answer in one piece."""
        if message["type"] == "http.response.start":
            self._start = message
            return
        content = message.get("body", b"")
        headers = [(k, v) for k, v in self._start["headers"] if k != b"content-length"]
        if self._start["status"] == 200:
            content = _short(content)
        await _send(self._send, self._start["status"], headers, content)


def _short(content: bytes) -> bytes:
    completion = COMPLETION.decode(content)
    answer = completion.choices[0].said().strip() if completion.choices else ""
    model = msgspec.json.decode(content).get("model")
    return msgspec.json.encode({"answer": answer, "model": model, "usage": completion.usage})


async def _send(
    send: Send, status: int, headers: list[tuple[bytes, bytes]], content: bytes
) -> None:
    length = (b"content-length", b"%d" % len(content))
    await send({"type": "http.response.start", "status": status, "headers": [*headers, length]})
    await send({"type": "http.response.body", "body": content})
