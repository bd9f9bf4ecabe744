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
_NAMESPACE = 0x7EAD
_ANNOTATORS = 10


@dataclass(frozen=True)
class Text:
    """One line of text on a sign."""

    text: str
    color: str
    size_px: int
    left: float
    top: float

    def letters(self) -> list[tuple[str, Box]]:
        """Each character, lower case, with the box that it fills."""
        font = _font(self.size_px)
        drawn = self.text.upper()
        found = []
        for i, letter in enumerate(drawn):
            left, right = font.getlength(drawn[:i]), font.getlength(drawn[: i + 1])
            _, top, _, bottom = font.getbbox(letter)
            box = (self.left + left, self.top + top, self.left + right, self.top + bottom)
            found.append((letter.lower(), box))
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
        size = int(rng.integers(13, 18))
        font = _font(size)
        width = font.getlength(text.upper())
        left = rng.uniform(1, max(1.5, SIZE_PX - 1 - width))
        top = row * height + rng.uniform(0, max(0.5, height - size * 1.25))
        lines[kind] = Text(text, INK[rng.integers(len(INK))], size, float(left), float(top))
    return Sign(lines.get("word"), lines.get("number"))


def draw(sign: Sign, rng: np.random.Generator) -> Image.Image:
    """The 64x64 RGB picture of a sign, in capitals."""
    image = blank(rng)
    canvas = ImageDraw.Draw(image)
    for line in sign.lines:
        canvas.text(
            (line.left * OVERSAMPLE, line.top * OVERSAMPLE),
            line.text.upper(),
            fill=COLORS[line.color],
            font=_font(line.size_px * OVERSAMPLE),
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
