"""Check the images of a request before an engine sees them."""

from __future__ import annotations

import binascii
import io
from dataclasses import dataclass

import pybase64
from PIL import (
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    JpegImagePlugin,
    PngImagePlugin,
    UnidentifiedImageError,
    WebPImagePlugin,
)

from service.errors import InvalidRequestError

# Imported at the start, so that the first request does not wait for it.
_READERS = (PngImagePlugin, JpegImagePlugin, WebPImagePlugin, GifImagePlugin, BmpImagePlugin)
FORMATS = {
    "PNG": "image/png",
    "JPEG": "image/jpeg",
    "WEBP": "image/webp",
    "GIF": "image/gif",
    "BMP": "image/bmp",
}
_NAMES = tuple(FORMATS)
# What the last bytes of a whole file hold: cheaper to look for than to decode every pixel.
_ENDS = {"PNG": b"IEND", "JPEG": b"\xff\xd9"}


@dataclass(frozen=True)
class ImageLimits:
    """What one image may have."""

    max_bytes: int
    max_pixels: int


def check_data_url(url: str, place: str, limits: ImageLimits) -> None:
    """Check that a data URL holds a picture of bearable size.

    Raises:
        InvalidRequestError: names `place`, the part at fault.
    """
    head, comma, data = url.partition(",")
    if not comma or not head.endswith(";base64"):
        raise _bad(place, "is not a base64 data URL")
    if len(data) // 4 * 3 > limits.max_bytes + 2:
        raise _bad(place, f"is larger than {limits.max_bytes} bytes")
    try:
        content = pybase64.b64decode(data, validate=True)
    except (binascii.Error, ValueError) as error:
        raise _bad(place, "is not valid base64") from error
    check_image(content, place, limits)


def check_image(content: bytes, place: str, limits: ImageLimits) -> str:
    """Check an encoded image by its header; pixels are not decoded. Returns its media type.

    Raises:
        InvalidRequestError: names `place`, the part at fault.
    """
    if len(content) > limits.max_bytes:
        raise _bad(place, f"is larger than {limits.max_bytes} bytes")
    try:
        with Image.open(io.BytesIO(content), formats=_NAMES) as image:
            (width, height), kind = image.size, image.format or ""
    except UnidentifiedImageError as error:
        raise _bad(place, f"is not a {', '.join(_NAMES[:-1])} or {_NAMES[-1]} image") from error
    except Image.DecompressionBombError as error:
        raise _bad(place, f"has more than {limits.max_pixels} pixels") from error
    except Exception as error:  # a parser of hostile bytes may raise anything
        raise _bad(place, "is a damaged image") from error
    if width * height > limits.max_pixels:
        raise _bad(place, f"has {width}x{height} pixels, more than {limits.max_pixels}")
    if kind in _ENDS and _ENDS[kind] not in content[-4096:]:
        raise _bad(place, "is a damaged image: its end is missing")
    return FORMATS[kind]


def data_url(content: bytes, media_type: str) -> str:
    """An encoded image as a data URL."""
    return f"data:{media_type};base64,{pybase64.b64encode(content).decode()}"


def _bad(place: str, what: str) -> InvalidRequestError:
    return InvalidRequestError(f"{place} {what}.", param=place, code="invalid_image")
