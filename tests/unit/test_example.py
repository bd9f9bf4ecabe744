from __future__ import annotations

import base64
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from compressor.evaluate.example import Example

ORIENTATION = 0x0112


def about(file: Path) -> Example:
    return Example.about_file("1", "?", ("x",), "exact", file)


def noise(mode: str = "RGB") -> Image.Image:
    values = np.random.default_rng(0).integers(0, 256, (6, 8, len(mode)), dtype=np.uint8)
    return Image.fromarray(values.squeeze(), mode=None)


def test_a_photo_is_sent_as_it_is(tmp_path: Path) -> None:
    file = tmp_path / "a.jpg"
    noise().save(file)
    kind, _, data = about(file).data_url().partition(",")
    assert kind == "data:image/jpeg;base64"
    assert base64.b64decode(data) == file.read_bytes()


@pytest.mark.parametrize("case", ["turned.jpg", "alpha.png", "grey.jpg", "photo.webp"])
def test_what_servers_open_differently_is_sent_as_the_pixels_that_we_see(
    tmp_path: Path, case: str
) -> None:
    file = tmp_path / case
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    if case == "turned.jpg":
        noise().save(file, exif=exif)
    else:
        noise({"alpha.png": "RGBA", "grey.jpg": "L"}.get(case, "RGB")).save(file)
    kind, _, data = about(file).data_url().partition(",")
    with Image.open(io.BytesIO(base64.b64decode(data))) as sent:
        assert (kind, sent.mode) == ("data:image/png;base64", "RGB")
        assert np.array_equal(np.asarray(sent), np.asarray(about(file).image()))


def test_an_example_is_its_own_group_unless_it_says_otherwise() -> None:
    def draw() -> Image.Image:
        return noise()

    assert Example("7", "?", ("x",), "exact", draw).group == "7"
    assert Example("7", "?", ("x",), "exact", draw, group="p").group == "p"


@pytest.mark.parametrize(
    ("answers", "taught"),
    [
        (("net",), "net"),
        (("Net.",), "Net."),
        (("BROWN", "BROWN", "brown", "brown.", "blue"), "brown"),
        (("blu", "blu", "blue", "blue.", "BLUE"), "blue"),
        (("one", "one", "1"), "1"),
        (("one", "One", "one", "two"), "one"),
        (("left", "right", "right", "left"), "left"),
    ],
)
def test_what_is_taught_is_what_most_people_meant(answers: tuple[str, ...], taught: str) -> None:
    example = Example("1", "?", answers, "vqa", Image.Image)
    assert example.answer == taught
