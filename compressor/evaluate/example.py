"""One question about an image, whatever dataset it is of."""

from __future__ import annotations

import base64
import io
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Literal

from PIL import Image

from compressor.errors import DatasetError
from compressor.evaluate.normalise import normalise_prediction

Metric = Literal["exact", "vqa"]
SUFFIX = "\nAnswer the question using a single word or phrase."
MAX_NEW_TOKENS = 16
_ORIENTATION = 0x0112  # EXIF tag; 1 is upright


@dataclass(frozen=True)
class Example:
    """A question about an image, with its answers."""

    id: str
    """Unique within its dataset, over all splits."""
    question: str
    answers: tuple[str, ...]
    """One, or those of several people."""
    metric: Metric
    """`exact` match with the one answer, or `vqa`: soft accuracy over several people's answers."""
    open_image: Callable[[], Image.Image] = field(compare=False)
    group: str = ""
    """The picture that it asks about: questions about one picture are correlated. By default its id."""
    file: Path | None = None
    """Where the image lies, for pictures that are not drawn."""

    def __post_init__(self) -> None:
        if not self.group:
            object.__setattr__(self, "group", self.id)

    @classmethod
    def about_file(
        cls, key: str, question: str, answers: tuple[str, ...], metric: Metric, file: Path
    ) -> Example:
        """A question with the id `key` about an image file, grouped by that file."""
        return cls(key, question, answers, metric, partial(open_file, file), str(file), file)

    @property
    def answer(self) -> str:
        """What a model is taught to say: the answer that most people gave, the first of them.

        Spellings of one answer count together. Among them its normal form comes first and then the
        most frequent: were "BROWN" taught because four of ten wrote that, four "brown" and two
        "brown.", the loss of one example would drown all others'.
        """
        if len(set(self.answers)) == 1:
            return self.answers[0]
        normal = {spelling: normalise_prediction(spelling) for spelling in self.answers}
        (wanted, _), *_ = Counter(normal[spelling] for spelling in self.answers).most_common(1)
        spellings = Counter(spelling for spelling in self.answers if normal[spelling] == wanted)
        return wanted if wanted in spellings else spellings.most_common(1)[0][0]

    @property
    def prompt(self) -> str:
        """The question as models are asked it: with the usual suffix for short answers."""
        return self.question + SUFFIX

    def image(self) -> Image.Image:
        """The image, RGB.

        Raises:
            DatasetError: its file cannot be read.
        """
        return self.open_image()

    def png(self) -> bytes:
        """The image as a PNG file."""
        buffer = io.BytesIO()
        self.image().save(buffer, "PNG")
        return buffer.getvalue()

    def data_url(self) -> str:
        """The image as OpenAI's clients send it.

        A JPEG file travels as it is: a photo would grow tenfold as a PNG. Everything else is a PNG of
        `image()`, so that every server sees the same pixels.

        Raises:
            DatasetError: its file cannot be read.
        """
        jpeg = _plain_jpeg(self.file) if self.file else None
        kind, content = ("png", self.png()) if jpeg is None else ("jpeg", jpeg)
        return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def _plain_jpeg(path: Path) -> bytes | None:
    """The file, if it is an upright RGB JPEG; servers differ in how they open the others.

    Some turn a picture as its EXIF says, which the published evaluations do not.
    """
    try:
        with Image.open(path) as image:
            upright = image.getexif().get(_ORIENTATION, 1) == 1
            if image.format == "JPEG" and image.mode == "RGB" and upright:
                return path.read_bytes()
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise unreadable(path) from error
    return None


def open_file(path: str | Path) -> Image.Image:
    """An image file, RGB.

    Raises:
        DatasetError: it is missing or no image.
    """
    try:
        with Image.open(path) as image:
            return image.convert("RGB")
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise unreadable(path) from error


def unreadable(path: str | Path) -> DatasetError:
    """The error for an image that is missing or broken."""
    return DatasetError(f"The image {str(path)!r} is missing or cannot be read; put it there.")
