"""The rows of a table of models, in groups: what was asked, how fast it was, what it uses and costs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from service.top.models import Accuracy, ModelRow, Ratios

MISSING = "-"
_Show = Callable[[float], str]
_SCALES = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))


@dataclass(frozen=True)
class Row:
    """One figure of every model."""

    label: str
    cell: Callable[[ModelRow], str]
    ratio: Callable[[Ratios], float | None]
    brief: bool = False
    """Whether it is shown on a small terminal too."""
    optional: bool = False
    """Whether it is left out where no model has it, as on a machine without graphics cards."""


def groups_of(family: Sequence[ModelRow], *, brief: bool) -> list[list[Row]]:
    """The rows to show of these models, by group; no group is empty."""
    datasets = sorted({name for model in family for name in model.accuracy})
    every = (_TRAFFIC, _SPEED, _USE, [_accuracy(dataset) for dataset in datasets])
    shown = [[row for row in rows if _is_shown(row, family, brief=brief)] for rows in every]
    return [rows for rows in shown if rows]


def _is_shown(row: Row, family: Sequence[ModelRow], *, brief: bool) -> bool:
    if brief and not row.brief:
        return False
    return not row.optional or any(row.cell(model) != MISSING for model in family)


def seconds(value: float) -> str:
    """A duration of an answer."""
    return f"{1000 * value:.1f} ms" if value < 1 else f"{value:.2f} s"


def interval(found: Accuracy | None) -> str:
    """A value with its interval."""
    return MISSING if found is None else f"{found.value:.3f} [{found.low:.3f}, {found.high:.3f}]"


def scaled(value: float, unit: str = "") -> str:
    """Three digits with a decimal prefix: 1.23 G."""
    for scale, prefix in _SCALES:
        if value >= 0.9995 * scale:  # what would be rounded to 1000 of the smaller one
            return f"{_digits(value / scale)} {prefix}{unit}"
    return f"{_digits(value)} {unit}".rstrip()


def _digits(value: float) -> str:
    return f"{value:.0f}" if value >= 99.95 else f"{value:.3g}"


def _figure(
    label: str, name: str, show: _Show, *, brief: bool = False, optional: bool = False
) -> Row:
    """A row of the field `name`, which the ratios may have as well."""

    def cell(model: ModelRow) -> str:
        value = getattr(model, name)
        return MISSING if value is None else show(value)

    def ratio(ratios: Ratios) -> float | None:
        found: float | None = getattr(ratios, name, None)
        return found

    return Row(label, cell, ratio, brief, optional)


def _accuracy(dataset: str) -> Row:
    return Row(
        f"accuracy, {dataset}",
        lambda model: interval(model.accuracy.get(dataset)),
        lambda ratios: ratios.accuracy.get(dataset),
        brief=True,
    )


_TRAFFIC = (
    _figure("requests/s", "requests_per_s", "{:.2f}".format, brief=True),
    _figure("errors", "error_share", "{:.1%}".format, brief=True),
    Row(
        "in flight / waiting",
        lambda model: f"{model.in_flight} / {model.waiting}",
        lambda _: None,
        brief=True,
    ),
)
_SPEED = (
    _figure("latency, p50", "p50_s", seconds, brief=True),
    _figure("latency, p95", "p95_s", seconds, brief=True),
    _figure("latency, p99", "p99_s", seconds),
    _figure("first token, p50", "first_token_p50_s", seconds, brief=True),
    _figure("first token, p95", "first_token_p95_s", seconds),
    _figure("further token, p50", "per_token_p50_s", seconds),
    _figure("tokens/s", "tokens_per_s", "{:.1f}".format, brief=True),
)
_USE = (
    _figure("cores in use", "cores", "{:.2f}".format, optional=True),
    _figure("graphics cards in use", "gpus", "{:.2f}".format, optional=True),
    _figure("memory", "memory_bytes", lambda value: scaled(value, "B"), optional=True),
    _figure(
        "graphics cards' memory",
        "gpu_memory_bytes",
        lambda value: scaled(value, "B"),
        optional=True,
    ),
    _figure("KV cache in use", "kv_cache_used", "{:.1%}".format, optional=True),
    _figure("parameters", "params", scaled, optional=True),
    _figure("FLOPs of a prompt", "prompt_flops", scaled, optional=True),
)
