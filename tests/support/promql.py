"""Which metrics a query asks for, and which there are."""

from __future__ import annotations

import re
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path

import promql_parser

from service.telemetry import catalogue

_PARTS = {"counter": ("_total",), "gauge": ("",), "histogram": ("_bucket", "_sum", "_count")}


def asked_for(expr: str) -> set[str]:
    """The names of the metrics in a query.

    Raises:
        ValueError: it is not PromQL.
    """
    found: set[str] = set()

    def visit(node: object) -> bool:
        selector = node.vector_selector if isinstance(node, promql_parser.MatrixSelector) else node
        if isinstance(selector, promql_parser.VectorSelector):
            found.add(selector.name or str(selector))
        return True

    promql_parser.walk(promql_parser.parse(expr), visit)
    return found


def ranged_over(expr: str) -> set[str]:
    """The names of the metrics that a query takes over time, by `rate` and its like."""
    found: set[str] = set()

    def visit(node: object) -> bool:
        if isinstance(node, promql_parser.MatrixSelector):
            found.add(node.vector_selector.name or str(node.vector_selector))
        return True

    promql_parser.walk(promql_parser.parse(expr), visit)
    return found


def ours() -> set[str]:
    """The names of the gateway's samples, from the code."""
    listed = {spec.name + part for spec in catalogue.CATALOGUE for part in _PARTS[spec.kind]}
    return listed | {"up"}


def of_cadvisor() -> set[str]:
    """The names of the kubelet's samples that are asked for."""
    return {"container_cpu_usage_seconds_total", "container_memory_working_set_bytes"}


def of_vllm() -> set[str]:
    """The names of vLLM's samples, read off its source: importing it takes seconds."""
    found = find_spec("vllm")
    assert found is not None
    assert found.origin is not None
    source = Path(found.origin).parent / "v1" / "metrics" / "loggers.py"
    names = set(re.findall(r'name="(vllm:\w+)"', source.read_text()))
    assert names
    return _with_parts(names)


def _with_parts(names: Iterable[str]) -> set[str]:
    parts = {part for kind in _PARTS.values() for part in kind}
    return {name + part for name in names for part in parts}
