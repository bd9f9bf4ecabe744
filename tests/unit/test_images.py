from __future__ import annotations

import base64
import io
from typing import Any

import pytest
from PIL import Image

from service.errors import InvalidRequestError
from service.gateway.images import check_images

MAX_PIXELS = 10_000


def data_url(size: tuple[int, int] = (8, 8), *, cut: int | None = None) -> str:
    file = io.BytesIO()
    Image.new("RGB", size, "red").save(file, "PNG")
    return "data:image/png;base64," + base64.b64encode(file.getvalue()[:cut]).decode()


def messages(url: Any) -> list[dict[str, Any]]:
    text = {"type": "text", "text": "what?"}
    return [
        {"role": "system", "content": "short"},
        {"role": "user", "content": [text, {"type": "image_url", "image_url": url}]},
    ]


def test_a_picture_in_a_data_url_passes() -> None:
    check_images(messages({"url": data_url()}), max_pixels=MAX_PIXELS)
    check_images(messages(data_url()), max_pixels=MAX_PIXELS)


@pytest.mark.parametrize("content", [None, "text", [], [3], [{"content": [3, {"type": "text"}]}]])
def test_messages_without_images_are_the_engines_to_judge(content: Any) -> None:
    check_images(content, max_pixels=MAX_PIXELS)


@pytest.mark.parametrize(
    ("image", "sentence"),
    [
        ({"url": "http://169.254.169.254/secret"}, "is not a data URL"),
        ({"url": "file:///etc/passwd"}, "is not a data URL"),
        ({"url": "data:image/png,abc"}, "is not a base64 data URL"),
        ({"url": "data:image/png;base64,@@"}, "is not valid base64"),
        ({"url": "data:image/png;base64,aGVsbG8="}, "is not an image that can be read"),
        ({"url": data_url((90, 90), cut=-30)}, "is a damaged image"),
        ({"url": data_url((200, 200))}, "has 200x200 pixels, more than 10000"),
        ({}, "has no URL"),
    ],
)
def test_a_bad_image_is_named_by_its_place(image: dict[str, str], sentence: str) -> None:
    with pytest.raises(InvalidRequestError, match=sentence) as caught:
        check_images(messages(image), max_pixels=MAX_PIXELS)
    assert caught.value.param == "messages[1].content[1].image_url"
    assert caught.value.status == 400
