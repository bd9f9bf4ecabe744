"""The benchmark's tables."""

from __future__ import annotations

from typing import Any

from rich.table import Table


def tables(report: dict[str, Any]) -> list[Table]:
    """A table of the cases, and one for each with its parts."""
    return [_cases(report), *(_parts(name, case) for name, case in report["cases"].items())]


def _cases(report: dict[str, Any]) -> Table:
    engine = report["engine"]
    table = Table(
        "", "original, s", "compressed, s", "speed-up", "range", "FLOPs ratio", "realised",
        title=f"{engine['engine']} on {engine['device']}, {engine['dtype']}, "
        f"{engine['threads']} threads",
    )  # fmt: skip
    for name, case in report["cases"].items():
        low, high = case["speedup_range"]
        table.add_row(
            name, f"{case['original_s']:.3f}", f"{case['compressed_s']:.3f}",
            f"{case['speedup']:.2f}", f"{low:.2f}-{high:.2f} (n={case['pairs']})",
            f"{case['flops_ratio']:.2f}", f"{case['realised']:.0%}",
        )  # fmt: skip
    return table


def _parts(name: str, case: dict[str, Any]) -> Table:
    table = Table("part", "original, s", "compressed, s", "FLOPs share", "excess, s", title=name)
    for part, found in case["parts"].items():
        share = f"{found['flops_share']:.3f}" if found["flops_share"] else ""
        table.add_row(
            part, f"{found['original_s']:.3f}", f"{found['compressed_s']:.3f}", share,
            f"{found['excess_s']:+.3f}",
        )  # fmt: skip
    return table
