"""Models named by an operator: directories, or models of the Hugging Face hub that settings allow.

Of a hub model only what is safe to read is fetched: weights as safetensors, and text. Pickled weights
and code of the repository are left where they are. What was fetched stays in the hub's own cache
(HF_HOME); HF_TOKEN opens gated models, HF_ENDPOINT names a mirror.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from service.operator_errors import HubError

SAFE_FILES = ("*.safetensors", "*.json", "*.jinja", "*.txt", "*.model")
_HUB_NAME = re.compile(r"(?P<repository>[\w-][\w.-]*/[\w-][\w.-]*)(@(?P<revision>[\w./-]+))?")


class Named(NamedTuple):
    """A model that is on this machine now."""

    name: str
    path: Path


def find_models(given: Iterable[str], allowed: Sequence[str]) -> list[Named]:
    """The directories of models; those of the hub are fetched first, unless they are in its cache.

    Args:
        given: directories, or `owner/name`, or `owner/name@revision`.
        allowed: `owner/name` of each hub model that may be fetched.

    Raises:
        HubError: a hub model is not allowed, does not exist, or cannot be reached.
    """
    return [_find(model, allowed) for model in given]


def _find(given: str, allowed: Sequence[str]) -> Named:
    match = _HUB_NAME.fullmatch(given)
    if match is None or Path(given).exists():
        path = Path(given)
        return Named(path.resolve().name, path)
    repository, revision = match["repository"], match["revision"]
    if repository not in allowed:
        raise HubError(
            f"There is no directory {given!r}, and the hub's model {repository!r} is not allowed; "
            f"INFOPRUNE_HUB_MODELS='[\"{repository}\"]' allows it."
        )
    return Named(repository.split("/")[1], _fetch(repository, revision))


def _fetch(repository: str, revision: str | None) -> Path:
    # Imported late: it reads its own settings then, and commands that need no hub start faster.
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (  # type: ignore[attr-defined]
        HTTPError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    try:
        found = snapshot_download(repository, revision=revision, allow_patterns=[*SAFE_FILES])
    except RevisionNotFoundError as error:
        raise HubError(f"The hub's model {repository!r} has no revision {revision!r}.") from error
    except RepositoryNotFoundError as error:
        raise HubError(
            f"The hub has no model {repository!r}, or HF_TOKEN does not open it."
        ) from error
    except (HTTPError, LocalEntryNotFoundError, OSError) as error:
        raise HubError(
            f"The hub's model {repository!r} could not be fetched; the same command goes on where it "
            "was."
        ) from error
    return Path(str(found))
