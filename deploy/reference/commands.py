"""The page of the command line, from the Typer application."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Literal, get_args, get_origin

import typer

from deploy.reference.schema import one_line


def command_line(app: typer.Typer, name: str) -> str:
    """Every command with its arguments and options, in the order in which help lists them."""
    return "\n".join(_group(typer.main.get_command(app), name))


def _group(group: Any, path: str) -> Iterator[str]:
    for name, command in group.commands.items():
        if command.hidden:
            continue
        if hasattr(command, "commands"):
            yield f"## {path} {name}\n\n{command.help}\n"
            yield from _group(command, f"{path} {name}")
        else:
            yield from _command(command, f"{path} {name}")


def _command(command: Any, path: str) -> Iterator[str]:
    level = "##" if path.count(" ") == 1 else "###"
    shown = [p for p in command.params if not p.hidden]
    arguments = [p for p in shown if p.param_type_name == "argument"]
    usage = " ".join([path, *(_metavar(p) for p in arguments), "[OPTIONS]"])
    yield f"{level} {path}\n\n`{usage}`\n\n{_paragraphs(command.help)}\n"
    if shown:
        yield "| | | default | |\n|---|---|---|---|"
        yield from (_row(parameter) for parameter in shown)
        yield ""


def _paragraphs(text: str) -> str:
    return re.sub(r"(?<!\n)\n(?!\n)", " ", text)


def _metavar(argument: Any) -> str:
    name = argument.name.upper() + ("..." if argument.nargs != 1 else "")
    return name if argument.required else f"[{name}]"


def _row(parameter: Any) -> str:
    is_argument = parameter.param_type_name == "argument"
    names = [parameter.name.upper()] if is_argument else parameter.opts + parameter.secondary_opts
    cells = [
        ", ".join(f"`{name}`" for name in names), _kind(parameter), _default(parameter),
        one_line(parameter.help or ""),
    ]  # fmt: skip
    return f"| {' | '.join(cells)} |"


def _kind(parameter: Any) -> str:
    if getattr(parameter, "is_flag", False):
        return "flag"
    annotation = parameter.type_descriptor.annotation
    if get_origin(annotation) is Literal:
        return " or ".join(f"`{value}`" for value in get_args(annotation))
    found = {"str": "text", "int": "integer", "float": "number"}.get(
        annotation.__name__, annotation.__name__.lower()
    )
    if parameter.min is not None:
        found += f", >= {parameter.min:g}"
    if parameter.max is not None:
        found += f", <= {parameter.max:g}"
    return found + (", repeatable" if parameter.multiple or parameter.nargs != 1 else "")


def _default(parameter: Any) -> str:
    if parameter.required:
        return "required"
    value = parameter.default
    if value is None or value is False or value == []:
        return ""
    if value is True:
        return f"`{parameter.opts[0]}`"
    shown = ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else value
    return f"`{shown}`"
