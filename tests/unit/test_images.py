from __future__ import annotations

import base64
import io
import struct
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from service.errors import InvalidRequestError
from service.gateway.images import FORMATS, ImageLimits, check_data_url, check_image, data_url

LIMITS = ImageLimits(max_bytes=100_000, max_pixels=10_000)
PLACE = "messages[1].content[1].image_url"


def picture(size: tuple[int, int] = (8, 8), kind: str = "PNG") -> bytes:
    file = io.BytesIO()
    Image.new("RGB", size, "red").save(file, kind)
    return file.getvalue()


def bomb(width: int, height: int) -> bytes:
    """A PNG of a few bytes whose header claims to be large."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


@pytest.mark.parametrize("kind", FORMATS)
def test_a_picture_passes_and_its_kind_is_told(kind: str) -> None:
    content = picture(kind=kind)
    assert check_image(content, PLACE, LIMITS) == FORMATS[kind]
    check_data_url(data_url(content, FORMATS[kind]), PLACE, LIMITS)


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("data:image/png,abc", "is not a base64 data URL"),
        ("data:image/png;base64", "is not a base64 data URL"),
        ("data:image/png;base64,@@", "is not valid base64"),
        ("data:image/png;base64,\u00e9\u00e9\u00e9\u00e9", "is not valid base64"),
        ("data:image/png;base64,aGVsbG8=", "is not a PNG, JPEG, WEBP, GIF or BMP image"),
        ("data:image/png;base64," + "A" * 140_000, "is larger than 100000 bytes"),
        (data_url(picture((90, 90))[:-30], "image/png"), "is a damaged image: its end is missing"),
        (data_url(picture(kind="JPEG")[:-30], "image/jpeg"), "is a damaged image"),
        (data_url(picture((200, 200)), "image/png"), "has 200x200 pixels, more than 10000"),
        (data_url(bomb(50_000, 50_000), "image/png"), "pixels"),
        (data_url(bomb(0, 7), "image/png"), "image"),
    ],
)
def test_a_bad_image_is_named_by_its_place(url: str, sentence: str) -> None:
    with pytest.raises(InvalidRequestError, match=sentence) as caught:
        check_data_url(url, PLACE, LIMITS)
    assert caught.value.param == PLACE
    assert caught.value.status == 400


@settings(deadline=None)
@given(st.binary(max_size=300), st.sampled_from([*FORMATS, None]))
def test_whatever_the_bytes_are_the_answer_is_yes_or_a_sentence(
    noise: bytes, kind: str | None
) -> None:
    content = noise if kind is None else picture(kind=kind)[:40] + noise
    url = "data:image/png;base64," + base64.b64encode(content).decode()
    refused = None
    try:
        check_data_url(url, PLACE, LIMITS)
    except InvalidRequestError as error:  # any other error ends the test
        refused = str(error)
    assert refused is None or refused.startswith(PLACE)
