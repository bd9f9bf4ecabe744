"""The text normalisation of the official VQA evaluation, quirks included. Pure.

Source: `PythonEvaluationTools/vqaEvaluation/vqaEval.py` of the VQA team's evaluation code, as it was
from October 2016 to March 2021, the time of most published figures. What looks like a mistake below is
one of theirs, kept so that scores are the same: see the comments.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from types import MappingProxyType

_CONTRACTED = """
    ain't aren't can't could've couldn't couldn't've didn't doesn't don't hadn't hadn't've hasn't
    haven't he'd he'd've he's how'd how'll how's isn't it'd it'd've it'll ma'am mightn't mightn't've
    might've mustn't must've needn't not've o'clock oughtn't 'ow's'at shan't she'd've should've
    shouldn't shouldn't've somebody'd've somebody'll somebody's someone'd someone'd've someone'll
    someone's something'd something'd've something'll that's there'd there'd've there're there's
    they'd they'd've they'll they're they've 'twas wasn't we'd've we've weren't what'll what're
    what's what've when's where'd where's where've who'd who'd've who'll who's who've why'll why're
    why's won't would've wouldn't wouldn't've y'all y'all'll y'all'd've you'd you'd've you'll you're
    you've
"""
NUMBERS: Mapping[str, str] = MappingProxyType(
    {
        "none": "0",
        "zero": "0",
        "one": "1",
        "two": "2",
        "three": "3",
        "four": "4",
        "five": "5",
        "six": "6",
        "seven": "7",
        "eight": "8",
        "nine": "9",
        "ten": "10",
    }
)
ARTICLES = frozenset({"a", "an", "the"})
# In the official order. Apostrophes, colons and full stops are not in it.
PUNCTUATION = tuple(';/[]"{}()=+\\_-><@`,?!')
# `(?!<=\d)` was meant to be the look-behind `(?<!\d)`. Standing before a full stop it is always true,
# so "3." loses its full stop as well.
_FULL_STOP = re.compile(r"(?!<=\d)(\.)(?!\d)")
_COMMA_IN_NUMBER = re.compile(r"(\d)(,)(\d)")
# `sub("", text, re.UNICODE)` was meant to pass a flag, but the third argument is how many to replace.
_FULL_STOPS_REMOVED = int(re.UNICODE)  # 32


def _without_one_apostrophe(word: str) -> Iterator[str]:
    for place, letter in enumerate(word):
        if letter == "'":
            yield word[:place] + word[place + 1 :]


# The official table holds each word once for every apostrophe that can be missing. One of its entries
# is the wrong way round. Left out are what changes nothing ("let's", "she's") and four keys with a
# capital I ("Im"), which no word can equal: words are in lower case when they are looked up.
CONTRACTIONS: Mapping[str, str] = MappingProxyType(
    {key: word for word in _CONTRACTED.split() for key in _without_one_apostrophe(word)}
    | {"somebody'd": "somebodyd"}
)


def strip_punctuation(text: str) -> str:
    """Remove punctuation marks, or put a space in their place.

    A mark is removed where it stands next to a space anywhere in the text, and so are all marks of a
    text that has a comma between two digits; otherwise a space takes its place.
    """
    found = text
    all_removed = _COMMA_IN_NUMBER.search(text) is not None
    for mark in PUNCTUATION:
        beside_space = mark + " " in text or " " + mark in text
        found = found.replace(mark, "" if beside_space or all_removed else " ")
    return _FULL_STOP.sub("", found, _FULL_STOPS_REMOVED)


def normalise_words(text: str) -> str:
    """Lower case, number words as digits, no articles, apostrophes where they are missing."""
    numbers = (NUMBERS.get(word, word) for word in text.lower().split())
    return " ".join(CONTRACTIONS.get(word, word) for word in numbers if word not in ARTICLES)


def normalise_prediction(text: str) -> str:
    """What a model said, as the official code compares it with people's answers."""
    one_line = text.replace("\n", " ").replace("\t", " ").strip()
    return normalise_words(strip_punctuation(one_line))


def normalise_answers(answers: tuple[str, ...]) -> tuple[str, ...]:
    """People's answers, as the official code compares predictions with them.

    Only their punctuation, and only where they differ: numbers, articles and capitals stay.
    """
    if len(set(answers)) == 1:
        return answers
    return tuple(strip_punctuation(answer) for answer in answers)
