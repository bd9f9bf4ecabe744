"""What the gateway reads of a request to a model; everything else is the engine's.

A body is decoded once, into the few fields below; what goes to the worker is the client's own bytes,
with at most a piece put in or replaced.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

from service.errors import InvalidRequestError
from service.gateway.images import ImageLimits, check_data_url
from service.routing.balance import image_key
from service.settings import Settings

CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"
MAX_NAME = 256
_ADD_USAGE = b'{"stream_options":{"include_usage":true},'


class _Url(msgspec.Struct):
    url: str | None = None


class _Part(msgspec.Struct):
    """Any kind of content part: vLLM takes parts without a `type` too."""

    image_url: str | _Url | None = None
    video_url: str | _Url | None = None
    audio_url: str | _Url | None = None
    image_embeds: Any = None
    audio_embeds: Any = None


class _Message(msgspec.Struct):
    content: str | list[str | _Part] | None = None


class _StreamOptions(msgspec.Struct):
    include_usage: bool | None = None


class _Request(msgspec.Struct):
    model: str
    stream: bool | None = None
    stream_options: _StreamOptions | UnsetType | None = UNSET
    n: int | None = None
    max_tokens: int | None = None
    user: str | None = None
    prompt_embeds: Any = None


class _ChatRequest(_Request):
    messages: list[_Message] | UnsetType = UNSET
    max_completion_tokens: int | None = None


class _CompletionRequest(_Request):
    best_of: int | None = None


@dataclass(frozen=True)
class ImagePlace:
    """An image in a request that has to be fetched."""

    message: int
    part: int
    url: str

    @property
    def name(self) -> str:
        """As errors name it."""
        return f"messages[{self.message}].content[{self.part}].image_url"


@dataclass(slots=True)
class Ask:
    """A request that was read and found bearable."""

    path: str
    model: str
    stream: bool
    usage_asked: bool
    user: str | None
    body: bytes
    add_usage: bool = False
    rewrite_usage: bool = False
    image: bytes | None = None
    """Key of its first image, for affinity."""
    to_fetch: Sequence[ImagePlace] = ()
    choices: int = 1
    """Answers that it wants."""


class AskReader:
    """Reads bodies; holds decoders and limits."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._limits = ImageLimits(settings.max_image_bytes, settings.max_image_pixels)
        self._decoders: dict[str, msgspec.json.Decoder[Any]] = {
            CHAT: msgspec.json.Decoder(_ChatRequest),
            COMPLETIONS: msgspec.json.Decoder(_CompletionRequest),
        }

    def read(self, path: str, body: bytes) -> Ask:
        """Decode and check a body.

        Raises:
            InvalidRequestError: it is no JSON, has a field of the wrong type, or is over a limit.
        """
        try:
            request = self._decoders[path].decode(body)
        except msgspec.ValidationError as error:
            raise InvalidRequestError(f"The request is wrong: {error}.") from error
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise InvalidRequestError(
                f"The body is not valid JSON: {error}.", code="invalid_json"
            ) from error
        self._check_numbers(request)
        options = request.stream_options
        asked = bool(options and options.include_usage)
        add = bool(request.stream) and not asked
        ask = Ask(path, request.model, bool(request.stream), asked, request.user, body)
        ask.choices = request.n or 1
        ask.add_usage, ask.rewrite_usage = add and options is UNSET, add and options is not UNSET
        if path == CHAT and request.messages is not UNSET:
            self._check_media(request.messages, ask)
        return ask

    def _check_numbers(self, request: _Request) -> None:
        if len(request.model) > MAX_NAME:
            raise InvalidRequestError(f"A model's name has at most {MAX_NAME} letters.")
        if request.prompt_embeds is not None:
            raise InvalidRequestError("prompt_embeds are not accepted.", param="prompt_embeds")
        limits = self._settings
        for name, limit in (
            ("n", limits.max_choices),
            ("best_of", limits.max_choices),
            ("max_tokens", limits.max_tokens),
            ("max_completion_tokens", limits.max_tokens),
        ):
            value = getattr(request, name, None)
            if value is not None and value > limit:
                raise InvalidRequestError(
                    f"{name} is {value}, more than the limit of {limit}.", param=name
                )

    def _check_media(self, messages: list[_Message], ask: Ask) -> None:
        """Check inline images; note those to fetch. No other medium may make an engine fetch."""
        images = 0
        fetch: list[ImagePlace] = []
        for i, message in enumerate(messages):
            if type(message.content) is not list:
                continue
            for j, part in enumerate(message.content):
                if type(part) is str:
                    continue
                assert isinstance(part, _Part)
                _check_other_media(part, f"messages[{i}].content[{j}]")
                url = part.image_url.url if isinstance(part.image_url, _Url) else part.image_url
                if url is None:
                    continue
                images += 1
                if images > self._settings.max_images:
                    limit = self._settings.max_images
                    raise InvalidRequestError(f"The request has more than {limit} images.")
                place = ImagePlace(i, j, url)
                if self._must_fetch(place):
                    fetch.append(place)
                else:
                    check_data_url(url, place.name, self._limits)
                ask.image = ask.image or image_key(url)
        ask.to_fetch = fetch

    def _must_fetch(self, place: ImagePlace) -> bool:
        """Whether an image has to be fetched; False for a data URL."""
        scheme = place.url[:8].lower()
        if scheme.startswith("data:"):
            return False
        if self._settings.image_fetch and scheme.startswith(("http://", "https://")):
            return True
        kinds = "a data URL or an http(s) URL" if self._settings.image_fetch else "a data URL"
        raise InvalidRequestError(
            f"{place.name} is not {kinds}.", param=place.name, code="invalid_image"
        )


def _check_other_media(part: _Part, place: str) -> None:
    for name in ("video_url", "audio_url"):
        value = getattr(part, name)
        url = value.url if isinstance(value, _Url) else value
        if url is not None and not url.startswith("data:"):
            raise InvalidRequestError(f"{place}.{name} is not a data URL.", param=f"{place}.{name}")
    if part.image_embeds is not None or part.audio_embeds is not None:
        raise InvalidRequestError(f"{place}: embeddings are not accepted.", param=place)


def worker_body(
    ask: Ask, model: str, fetched: Sequence[tuple[ImagePlace, str]] = ()
) -> list[bytes]:
    """The pieces that are sent to a worker: the client's bytes, changed as little as can be.

    Args:
        ask: the request.
        model: the name under which the worker serves; differs from the client's for an alias.
        fetched: data URLs that replace what was to fetch.
    """
    renamed = model != ask.model
    if fetched or ask.rewrite_usage or (renamed and not _only_one_model(ask.body)):
        return [_rewritten(ask, model, fetched)]
    pieces = [ask.body]
    if renamed:
        value = _MODEL.search(ask.body)
        assert value is not None  # _only_one_model has seen it
        start, end = value.span(1)
        pieces = [ask.body[:start], msgspec.json.encode(model), ask.body[end:]]
    if ask.add_usage:
        brace = pieces[0].index(b"{") + 1
        pieces[:1] = [_ADD_USAGE, pieces[0][brace:]]
    return pieces


_MODEL = re.compile(rb'"model"\s*:\s*("(?:[^"\\]|\\.)*")')


def _only_one_model(body: bytes) -> bool:
    """Whether the one place where `"model"` is written is surely the request's own key."""
    return body.count(b'"model"') == 1 and b"\\u" not in body and bool(_MODEL.search(body))


def _rewritten(ask: Ask, model: str, fetched: Sequence[tuple[ImagePlace, str]]) -> bytes:
    content: dict[str, Any] = msgspec.json.decode(ask.body)
    content["model"] = model
    if ask.add_usage or ask.rewrite_usage:
        options = content.get("stream_options") or {}
        content["stream_options"] = {**options, "include_usage": True}
    for place, url in fetched:
        part = content["messages"][place.message]["content"][place.part]
        if isinstance(part["image_url"], dict):
            part["image_url"]["url"] = url
        else:
            part["image_url"] = url
    return msgspec.json.encode(content)
