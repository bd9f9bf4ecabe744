"""Check the images of a chat request before an engine sees them."""

from __future__ import annotations

import base64
import binascii
import io
import warnings
from collections.abc import Iterator
from typing import Any

from PIL import Image, UnidentifiedImageError

from service.errors import InvalidRequestError


def image_urls(messages: Any) -> Iterator[tuple[str, str]]:
    """(parameter path, URL) of every image part; parts of other shapes are the engine's to judge."""
    for i, message in enumerate(messages if isinstance(messages, list) else []):
        content = message.get("content") if isinstance(message, dict) else None
        for j, part in enumerate(content if isinstance(content, list) else []):
            if isinstance(part, dict) and part.get("type") == "image_url":
                image = part.get("image_url")
                url = image.get("url") if isinstance(image, dict) else image
                path = f"messages[{i}].content[{j}].image_url"
                if not isinstance(url, str):
                    raise InvalidRequestError(f"{path} has no URL.", param=path)
                yield path, url


def check_images(messages: Any, *, max_pixels: int) -> None:
    """Check that every image is a data URL that holds a picture of bearable size.

    Raises:
        InvalidRequestError: names the part at fault.
    """
    for path, url in image_urls(messages):
        try:
            _check_image(url, max_pixels)
        except ValueError as error:
            raise InvalidRequestError(
                f"{path} {error}.", param=path, code="invalid_image"
            ) from error


def _check_image(url: str, max_pixels: int) -> None:
    head, comma, data = url.partition(",")
    if not url.startswith("data:"):
        raise ValueError("is not a data URL such as data:image/png;base64,<data>")
    if not comma or not head.endswith(";base64"):
        raise ValueError("is not a base64 data URL")
    try:
        content = base64.b64decode(data, validate=True)
    except binascii.Error as error:
        raise ValueError("is not valid base64") from error
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(content)) as image:
                width, height = image.size
                if width * height > max_pixels:
                    raise ValueError(f"has {width}x{height} pixels, more than {max_pixels}")
                image.load()
    except UnidentifiedImageError as error:
        raise ValueError("is not an image that can be read") from error
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError("is a damaged image") from error
