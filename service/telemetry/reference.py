"""docs/metrics.md, from the catalogue: `python -m service.telemetry.reference > docs/metrics.md`."""

from __future__ import annotations

import sys
from collections.abc import Mapping

from service.telemetry.catalogue import SECTIONS
from service.telemetry.spec import Spec

_HEAD = """\
# Metrics

`GET /metrics` on the gateway, in Prometheus's text format. This page is printed from the code:
`python -m service.telemetry.reference`.

- `variant` is `original` or `compressed`; values of labels come from the registry or from fixed sets,
  never from a client.
- Of several gateway processes behind one port each adds a label `replica`, so sum over it; the metrics
  marked *store* mirror the store, are the same in every process, and come once.
- `GET /metrics/targets` is Prometheus's HTTP service discovery (`http_sd_configs`) for the engines: all
  their `vllm:*` series get `model`, `variant` and `worker`, and can be joined with these.
- The edges of the latency histograms hold all of vLLM's for the same thing, and finer ones below them.
"""


def reference() -> str:
    """The whole page."""
    sections = [f"## {title}\n\n{_table(specs)}" for title, specs in SECTIONS.items()]
    return "\n".join([_HEAD, *sections, _buckets(SECTIONS)])


def _table(specs: tuple[Spec, ...]) -> str:
    head = "| metric | type | labels | unit | meaning |\n|---|---|---|---|---|\n"
    return head + "".join(map(_row, specs))


def _row(spec: Spec) -> str:
    labels = ", ".join(f"`{label}`" for label in spec.labels)
    kind = f"{spec.kind}, *store*" if spec.shared else spec.kind
    meaning = spec.help.replace("|", "\\|")
    return f"| `{spec.exposed_name}` | {kind} | {labels} | {spec.unit} | {meaning} |\n"


def _buckets(sections: Mapping[str, tuple[Spec, ...]]) -> str:
    """The edges of every histogram."""
    lines = ["## Buckets\n", "| histogram | upper edges, seconds |", "|---|---|"]
    for spec in (spec for specs in sections.values() for spec in specs if spec.buckets):
        edges = ", ".join(f"{edge:g}" for edge in spec.buckets)
        lines.append(f"| `{spec.name}` | {edges} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.stdout.write(reference())
