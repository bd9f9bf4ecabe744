"""Signs with a word, a number or both, and questions about what they say.

Like TextVQA: ten people answer each question, some in capitals, with a full stop, or wrongly; an
answer counts as much as people gave it. Every picture is drawn from (seed of its split, number).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from compressor.evaluate.generated.canvas import (
    COLORS,
    OVERSAMPLE,
    SIZE_PX,
    SPLITS,
    Box,
    Split,
    blank,
    finish,
)

_WORDS = """
    air arm art bag bank bar bed bell bike bird boat book box bus cafe cake car cat city clay club
    cold cook crew desk dog door drum east exit farm fish flag fly food fork fuel game gate gift
    gold golf hall hand hat help high hill home hot ice ink iron jazz jump key king lake lamp left
    lift line lock loud low mail map milk moon mud navy new nine oil old one open oven pack park
    path pay pool post pull push quiz rail rain red rice ring road room rug safe sale salt sand
    ship shop sky slow snow soap soup stop sun taxi tea tent time tool town tree turn van vet wall
    wax way west wind wood yard zero zone zoo
"""
WORDS = tuple(_WORDS.split())
INK = ("black", "blue", "brown", "red", "teal")  # readable on a light ground
ADVANCE_PX = 16  # from letter to letter
LINE_PX = 16
_NAMESPACE = 0x7EAD
_ANNOTATORS = 10


@dataclass(frozen=True)
class Text:
    """One line of text on a sign, letters at equal distances."""

    text: str
    color: str
    size_px: int
    left: float
    top: float

    def letters(self) -> list[tuple[str, Box]]:
        """Each character, lower case, with the box that it fills."""
        font = _font(self.size_px)
        found = []
        for i, letter in enumerate(self.text):
            left, top, right, bottom = font.getbbox(letter.upper())
            x = self.left + i * ADVANCE_PX + (ADVANCE_PX - (left + right)) / 2
            found.append((letter, (x + left, self.top + top, x + right, self.top + bottom)))
        return found


@dataclass(frozen=True)
class Sign:
    """What a picture says."""

    word: Text | None
    number: Text | None

    @property
    def lines(self) -> tuple[Text, ...]:
        """The lines that are there."""
        return tuple(line for line in (self.word, self.number) if line)


@dataclass(frozen=True)
class Question:
    """A question with the answers of ten people."""

    text: str
    answer: str
    """What is really there."""
    answers: tuple[str, ...]


def random_sign(rng: np.random.Generator) -> Sign:
    """A sign with a word (3 in 4), a number under 100 (3 in 4), at least one of them."""
    kinds = (("word",), ("number",), ("word", "number"), ("number", "word"))[rng.integers(4)]
    lines: dict[str, Text] = {}
    height = SIZE_PX / len(kinds)
    for row, kind in enumerate(kinds):
        if kind == "word":
            text = WORDS[rng.integers(len(WORDS))]
        else:
            text = str(rng.integers(10 ** rng.integers(1, 3)))
        free = SIZE_PX // ADVANCE_PX - len(text)  # columns
        left = rng.integers(free + 1) * ADVANCE_PX + rng.uniform(-1, 1)
        size = int(rng.integers(15, 19))
        # Lines stand at one of the places that their share of the picture has for them, loosely.
        places = int(height // LINE_PX)
        top = row * height + rng.integers(places) * LINE_PX + rng.uniform(0.5, 3.5)
        top -= _font(size).getbbox("H")[1]
        lines[kind] = Text(text, INK[rng.integers(len(INK))], size, float(left), float(top))
    return Sign(lines.get("word"), lines.get("number"))


def draw(sign: Sign, rng: np.random.Generator) -> Image.Image:
    """The 64x64 RGB picture of a sign, in capitals."""
    image = blank(rng)
    canvas = ImageDraw.Draw(image)
    for line in sign.lines:
        font = _font(line.size_px * OVERSAMPLE)
        for letter, (left, _, right, _) in line.letters():
            canvas.text(
                ((left + right) / 2 * OVERSAMPLE, line.top * OVERSAMPLE),
                letter.upper(),
                fill=COLORS[line.color],
                font=font,
                anchor="ma",
            )
    return finish(image)


@cache
def _font(size_px: int) -> ImageFont.FreeTypeFont:
    """Pillow's own font: the same on every machine."""
    font = ImageFont.load_default(size_px)
    assert isinstance(font, ImageFont.FreeTypeFont)
    return font


def ask(sign: Sign, rng: np.random.Generator) -> Question:
    """One question about a sign."""
    options: list[tuple[float, str, str]] = []
    if sign.word:
        for text in ("what word is written?", "what does the sign say?", "what is the word?"):
            options.append((0.15, text, sign.word.text))
        options.append((0.08, "what color is the word?", sign.word.color))
        options.append((0.1, "what is the first letter of the word?", sign.word.text[0]))
        options.append((0.07, "what is the last letter of the word?", sign.word.text[-1]))
    if sign.number:
        for text in ("what number is written?", "what is the number?"):
            options.append((0.15, text, sign.number.text))
        options.append((0.08, "what color is the number?", sign.number.color))
    shares = np.array([share for share, _, _ in options])
    _, text, answer = options[rng.choice(len(options), p=shares / shares.sum())]
    return Question(text, answer, _annotate(answer, rng))


def _annotate(answer: str, rng: np.random.Generator) -> tuple[str, ...]:
    """Ten answers, at most three of them wrong, in the spellings that people use."""
    wrong = int(rng.integers(0, 4))
    answers = []
    for person in range(_ANNOTATORS):
        if person < wrong:
            answers.append(answer[:-1] if len(answer) > 1 else answer + answer)
        else:
            answers.append((answer, answer.upper(), answer + ".")[rng.choice(3, p=(0.7, 0.2, 0.1))])
    return tuple(answers[i] for i in rng.permutation(_ANNOTATORS))


def picture_rng(split: Split, number: int) -> np.random.Generator:
    """The generator of one picture of a split, from which sign and drawing follow."""
    return np.random.default_rng([_NAMESPACE, SPLITS.index(split), number])


def question_rng(split: Split, number: int) -> np.random.Generator:
    """The generator of the questions about one picture, which so need not be drawn to be asked."""
    return np.random.default_rng([_NAMESPACE, SPLITS.index(split), number, 1])
