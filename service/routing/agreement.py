"""How far two models' answers to one request agree. Pure."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from compressor.evaluate.normalise import normalise_prediction

SHORT_WORDS = 5


@dataclass(frozen=True)
class Agreement:
    """Each between 0 and 1."""

    exact: float
    """1 where the texts are equal but for outer white space."""
    vqa: float
    """1 where they are equal after the official VQA evaluation's normalisation."""
    token: float
    """F1 of the normalised words, as in SQuAD."""
    judged: float
    """What counts: `vqa` where both answers are short, else `token`."""


def compare(first: str, second: str) -> Agreement:
    """Compare two answers."""
    a, b = normalise_prediction(first), normalise_prediction(second)
    words_a, words_b = a.split(), b.split()
    vqa, token = float(a == b), token_f1(words_a, words_b)
    short = max(len(words_a), len(words_b)) <= SHORT_WORDS
    return Agreement(float(first.strip() == second.strip()), vqa, token, vqa if short else token)


def token_f1(first: list[str], second: list[str]) -> float:
    """Harmonic mean of precision and recall of the words that both have, counted with repetitions.

    Source: P. Rajpurkar, J. Zhang, K. Lopyrev, P. Liang, "SQuAD: 100,000+ questions for machine
    comprehension of text", EMNLP 2016, section 6.1.
    """
    if not first or not second:
        return float(first == second)
    common = sum((Counter(first) & Counter(second)).values())
    return 2 * common / (len(first) + len(second))
