"""Questions about pictures that every model here answers right."""

from __future__ import annotations

import base64
import io
from typing import Any

from PIL import Image, ImageDraw


def about_a_blue_circle() -> list[dict[str, Any]]:
    """The messages of a chat: what color it is."""
    image = Image.new("RGB", (64, 64), "white")
    ImageDraw.Draw(image).ellipse((16, 16, 48, 48), fill="blue")
    file = io.BytesIO()
    image.save(file, "PNG")
    data = f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"
    parts = [
        {"type": "image_url", "image_url": {"url": data}},
        {"type": "text", "text": "what color is the shape?"},
    ]
    return [{"role": "user", "content": parts}]
