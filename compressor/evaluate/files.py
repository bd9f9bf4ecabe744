"""Reading question files: typed, and with one sentence for whatever is wrong with them."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import TypeVar

import msgspec

from compressor.errors import DatasetError

T = TypeVar("T")
_MISSING_KEY = re.compile(r"missing required field `([^`]+)`")


def read_json(path: Path, kind: type[T], expected: str) -> T:
    """The content of a JSON file, checked against a type; keys that the type lacks are skipped.

    Args:
        path: the file.
        kind: what it must hold.
        expected: what it should be, for the error, such as "VQAv2's questions".

    Raises:
        DatasetError: the file is missing or has another format; names the missing key.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DatasetError(
            f"There is no file {str(path)!r} to read {expected} from; see docs/datasets.md."
        ) from error
    return decode_json(content, kind, f"{str(path)!r} does not hold {expected}")


def decode_json(content: bytes, kind: type[T], complaint: str) -> T:
    """Decode JSON of a type.

    Raises:
        DatasetError: it is something else; the complaint, a colon, and what is wrong where.
    """
    try:
        return msgspec.json.decode(content, type=kind)
    except msgspec.ValidationError as error:
        raise DatasetError(f"{complaint}: {_reason(str(error))}; see docs/datasets.md.") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise DatasetError(f"{complaint}: it is not JSON; see docs/datasets.md.") from error


def _reason(message: str) -> str:
    """msgspec's message as part of a sentence."""
    what, _, where = message.partition(" - at ")
    place = where.strip("`").removeprefix("$").lstrip(".")
    missing = _MISSING_KEY.search(what)
    reason = f"the key {missing[1]!r} is missing" if missing else what.lower()
    return f"{reason} in {place}" if place else reason


def part_of_hash(text: str, parts: int) -> int:
    """A number below `parts` that depends on the text alone, on every machine."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8]) % parts
