"""Reading a request, and what the worker gets of it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from service.errors import InvalidRequestError
from service.gateway.ask import CHAT, COMPLETIONS, AskReader, worker_body
from service.gateway.images import data_url
from service.settings import Settings
from tests.unit.test_images import picture

READER = AskReader(Settings(max_images=2))
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
OWN = {"model", "stream", "stream_options", "n", "max_tokens", "max_completion_tokens", "user",
       "messages", "prompt_embeds"}  # fmt: skip


def sent(body: dict[str, Any], model: str = "tiny", *, ascii_only: bool = True) -> dict[str, Any]:
    """What the worker gets, parsed as an engine does."""
    data = json.dumps(body, ensure_ascii=ascii_only).encode()
    pieces = worker_body(READER.read(CHAT, data), model)
    found = json.loads(b"".join(pieces))
    assert isinstance(found, dict)
    return found


@hypothesis_settings(deadline=None)
@given(
    st.dictionaries(st.text(), JSON, max_size=5),
    st.sampled_from([None, False, True]),
    st.sampled_from(["absent", None, {}, {"include_usage": False}, {"include_usage": True}]),
    st.sampled_from(["tiny", 'a "quoted" name', "élan"]),
    st.booleans(),
)
def test_the_engine_gets_every_field_and_only_model_and_usage_may_change(
    extra: dict[str, Any], stream: bool | None, options: Any, model: str, ascii_only: bool
) -> None:
    body: dict[str, Any] = {k: v for k, v in extra.items() if k not in OWN}
    body |= {"nested": {"model": "inner"}, "model": "tiny", "stream": stream, "messages": []}
    if options != "absent":
        body["stream_options"] = options

    found = sent(body, model, ascii_only=ascii_only)

    expected = body | {"model": model}
    if stream:
        kept = options if isinstance(options, dict) else {}
        expected["stream_options"] = {**kept, "include_usage": True}
    assert found == expected


def test_a_body_that_needs_no_change_is_passed_on_as_the_very_same_bytes() -> None:
    data = b' {"messages" : [ ], "model":"tiny" , "x": 1e5 }\n'
    assert worker_body(READER.read(CHAT, data), "tiny") == [data]


def test_usage_is_asked_for_without_a_second_parse() -> None:
    data = b'{"model":"tiny","stream":true,"messages":[],"odd":1.50}'
    pieces = worker_body(READER.read(CHAT, data), "tiny")
    assert b"".join(pieces).endswith(data[1:]), "the client's bytes, spacing and all"


def parts(*found: Any) -> bytes:
    return json.dumps({"model": "m", "messages": [{"content": list(found)}]}).encode()


def test_images_are_found_in_every_shape_that_engines_take() -> None:
    url = data_url(picture(), "image/png")
    for part in (
        {"type": "image_url", "image_url": {"url": url}},
        {"image_url": url},
        {"image_url": {"url": url, "detail": "low"}},
    ):
        ask = READER.read(CHAT, parts("text", part))
        assert ask.image is not None
        assert not ask.to_fetch
    (place,) = READER.read(CHAT, parts({"image_url": "HTTPS://a.example/b"})).to_fetch
    assert place.name == "messages[0].content[0].image_url"


@pytest.mark.parametrize(
    ("part", "sentence"),
    [
        ({"image_url": "file:///etc/passwd"}, "is not a data URL or an http"),
        ({"image_url": ""}, "is not a data URL or an http"),
        ({"video_url": {"url": "http://a/b"}}, "video_url is not a data URL"),
        ({"audio_url": "http://a/b"}, "audio_url is not a data URL"),
        ({"image_embeds": "gASV"}, "embeddings are not accepted"),
        ({"image_url": 3}, "The request is wrong"),
    ],
)
def test_nothing_makes_an_engine_fetch_or_unpickle(part: Any, sentence: str) -> None:
    with pytest.raises(InvalidRequestError, match=sentence):
        READER.read(CHAT, parts(part))


def test_too_many_images_are_refused() -> None:
    image = {"image_url": data_url(picture(), "image/png")}
    READER.read(CHAT, parts(image, image))
    with pytest.raises(InvalidRequestError, match="more than 2 images"):
        READER.read(CHAT, parts(image, image, image))


@pytest.mark.parametrize(
    ("path", "body", "sentence"),
    [
        (CHAT, b"", "not valid JSON"),
        (CHAT, b'{"model": "\xff"}', "not valid JSON"),
        (CHAT, b'{"messages": []}', "required field `model`"),
        (CHAT, b'{"model": "' + b"a" * 300 + b'"}', "at most 256 letters"),
        (CHAT, b'{"model": "a", "n": 17}', "n is 17, more than the limit of 16"),
        (COMPLETIONS, b'{"model": "a", "best_of": 17}', "best_of is 17"),
        (COMPLETIONS, b'{"model": "a", "prompt_embeds": "x"}', "prompt_embeds are not accepted"),
        (CHAT, b'{"model": "a", "max_completion_tokens": 40000}', "more than the limit of 32768"),
    ],
)
def test_a_bad_body_gets_one_sentence(path: str, body: bytes, sentence: str) -> None:
    with pytest.raises(InvalidRequestError, match=sentence):
        READER.read(path, body)


@given(st.binary(max_size=200))
def test_any_bytes_are_a_request_or_refused(body: bytes) -> None:
    refused = False
    try:
        READER.read(CHAT, body)
    except InvalidRequestError:
        refused = True
    assert refused or body.lstrip()[:1] == b"{"
