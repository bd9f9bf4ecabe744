"""Which distributions one needs, by the metadata of what is installed."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, requires
from typing import TYPE_CHECKING

from packaging.requirements import Requirement

from deploy.decisions import project_name

if TYPE_CHECKING:
    from collections.abc import Iterable


def closure(requirements: Iterable[str]) -> set[str]:
    """Normalised names of what requirements name, extras included, and of all that those need.

    Of what is not installed the name alone is in it.
    """
    found: set[tuple[str, str]] = set()
    queue = [(_name(line), extra) for line in requirements for extra in _extras(line)]
    while queue:
        name, extra = queue.pop()
        if (name, extra) not in found:
            found.add((name, extra))
            lines = [line for line in _requires(name) if _applies(Requirement(line), extra)]
            queue += [(_name(line), wanted) for line in lines for wanted in _extras(line)]
    return {name for name, _ in found}


def _name(line: str) -> str:
    return project_name(Requirement(line).name)


def _extras(line: str) -> list[str]:
    """The extras that a requirement asks for; without any, and always, there is the empty one."""
    return ["", *sorted(Requirement(line).extras)]


def _requires(name: str) -> list[str]:
    try:
        return requires(name) or []
    except PackageNotFoundError:
        return []


def _applies(requirement: Requirement, extra: str) -> bool:
    return requirement.marker is None or requirement.marker.evaluate({"extra": extra})
