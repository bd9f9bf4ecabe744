"""`POST /v1/vqa`, `/v1/completions`, and what passes through untouched."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from compressor.evaluate.example import Example
from tests.support.http import Reply, call, chat

CHAT = "/v1/chat/completions"


def form(**fields: bytes) -> tuple[bytes, dict[str, str]]:
    """A multipart body; `image` is a file."""
    parts = []
    for name, value in fields.items():
        file = '; filename="a.png"' if name == "image" else ""
        head = f'--edge\r\ncontent-disposition: form-data; name="{name}"{file}\r\n\r\n'
        parts.append(head.encode() + value + b"\r\n")
    return b"".join(parts) + b"--edge--\r\n", {"content-type": "multipart/form-data; boundary=edge"}


def picture() -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (8, 8), "red").save(file, "PNG")
    return file.getvalue()


def ask(gateway: str, **fields: bytes) -> Reply:
    body, headers = form(**fields)
    return call("POST", f"{gateway}/v1/vqa", body, headers)


def test_a_picture_and_a_question_get_a_short_answer(gateway: str, fake_engine: str) -> None:
    reply = ask(gateway, image=picture(), question=b"Is it red?", model=b"tiny")
    assert reply.status == 200
    assert reply.json()["answer"] == "yes"
    assert reply.json()["usage"]["prompt_tokens"] == 90
    assert reply.headers["x-infoprune-model"] == "tiny"
    sent = call("GET", f"{fake_engine}/last").json()
    image, text = sent["messages"][0]["content"]
    assert image["image_url"]["url"].startswith("data:image/png;base64,")
    # As evaluations ask, so that what was measured is what is served.
    assert text["text"] == Example.about_file("1", "Is it red?", ("yes",), "exact", Path()).prompt


@pytest.mark.parametrize(
    ("fields", "status", "sentence"),
    [
        ({"question": b"?", "model": b"tiny"}, 400, "The field 'image' is missing"),
        ({"image": b"no picture", "question": b"?", "model": b"tiny"}, 400, "image is not a PNG"),
        ({"image": picture(), "question": b"?" * 5000, "model": b"tiny"}, 400, "question is over"),
        ({"image": picture(), "question": b"?", "model": b"huge"}, 404, "models: tiny, asleep"),
        ({"image": picture(), "question": b"reject", "model": b"tiny"}, 400, "too long"),
    ],
)
def test_a_bad_form_gets_one_sentence(
    gateway: str, fields: dict[str, bytes], status: int, sentence: str
) -> None:
    reply = ask(gateway, **fields)
    assert reply.status == status
    assert sentence in reply.sentence()


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"{}", "application/json"),
        (b"", "multipart/form-data"),
        (b"junk", "multipart/form-data; boundary=edge"),
        (b"--edge\r\n\r\n", "multipart/form-data; boundary=edge"),
    ],
)
def test_what_is_no_form_is_told_how_to_ask(gateway: str, body: bytes, kind: str) -> None:
    reply = call("POST", f"{gateway}/v1/vqa", body, {"content-type": kind})
    assert reply.status == 400
    assert "-F image=@FILE" in reply.sentence()


UNKNOWN: dict[str, Any] = {
    "n": 2, "logprobs": True, "top_logprobs": 3, "seed": 7,
    "tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}],
    "response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {}}},
    "a_field_of_tomorrow": {"deep": [1, None, "é"]},
}  # fmt: skip


@pytest.mark.parametrize("stream", [False, True])
def test_all_other_fields_reach_the_engine_as_they_are(
    gateway: str, fake_engine: str, stream: bool
) -> None:
    body = chat(stream=stream, **UNKNOWN)
    assert call("POST", gateway + CHAT, body).status == 200
    sent = call("GET", f"{fake_engine}/last").json()
    if stream:
        assert sent.pop("stream_options") == {"include_usage": True}
    assert sent == body


def test_completions_of_plain_prompts_are_served(gateway: str, fake_engine: str) -> None:
    body = {"model": "tiny", "prompt": "Once", "max_tokens": 3, "echo": True}
    reply = call("POST", f"{gateway}/v1/completions", body)
    assert (reply.status, reply.json()["choices"][0]["text"]) == (200, " upon")
    assert call("GET", f"{fake_engine}/last").json() == body


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"max_tokens": 10**9}, "max_tokens is 1000000000, more than the limit"),
        ({"n": 1000}, "n is 1000, more than"),
        ({"messages": [{"role": "user", "content": [{"video_url": {"url": "http://a/b"}}]}]},
         "video_url is not a data URL"),
        ({"messages": [{"role": "user", "content": [{"image_url": "ftp://a/b"}]}]},
         "is not a data URL or an http"),
        ({"messages": [{"role": "user", "content": [{"image_embeds": "gASV"}]}]},
         "embeddings are not accepted"),
    ],
)  # fmt: skip
def test_what_is_over_a_limit_is_refused_at_the_gateway(
    gateway: str, changes: dict[str, Any], sentence: str
) -> None:
    reply = call("POST", gateway + CHAT, chat() | changes)
    assert reply.status == 400
    assert sentence in reply.sentence()


def test_the_document_names_the_hot_endpoints(gateway: str) -> None:
    paths = json.loads(call("GET", f"{gateway}/openapi.json").body)["paths"]
    assert {"/v1/chat/completions", "/v1/completions", "/v1/vqa", "/compress"} <= set(paths)
