"""What the command line prints of a compression."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from compressor.meter import Spent
    from compressor.report.data import DryRun, Report


def show(found: Report | DryRun, out: Path) -> None:
    """Print a compression's outcome, or a dry run's plan, and what it cost."""
    from compressor.report.data import Report

    console = Console()
    if isinstance(found, Report):
        console.print(report_table(found, str(out)))
        if found.latency_by is not None:
            console.print(f"Latency: {found.latency_by}.", soft_wrap=True)
        console.print(f"Report: {out / 'report' / 'index.html'}", soft_wrap=True)
    else:
        console.print(plan_table(found))
        console.print(
            f"Nothing was written but {str(found.work)!r}, with which the same command without "
            "--dry-run goes on.",
            soft_wrap=True,
        )
    if found.spent is not None:
        console.print(cost_line(found.spent), soft_wrap=True)


def report_table(report: Report, title: str) -> Table:
    """Original and compressed."""
    from compressor.report.card import change, rows

    table = Table("", "original", "compressed", "ratio", title=f"{report.model}: {title}")
    for name, x, y in rows(report):
        table.add_row(name, f"{x:.4g}", f"{y:.4g}", f"{y / x:.3f}")
    for dataset, difference in report.difference.items():
        a, b = (side.accuracy[dataset].value for side in (report.original, report.compressed))
        table.add_row(f"accuracy, {dataset}", f"{a:.4f}", f"{b:.4f}", change(difference))
    if report.overall is not None:
        table.add_row("accuracy, mean", "", "", change(report.overall))
    return table


def plan_table(found: DryRun) -> Table:
    """A plan by tower: its share of FLOPs; heads, FFN widths and ranks from the least to the most."""
    plan = found.plan
    title = (
        f"Plan {plan.sha256[:16]}: {plan.planned:.3f} of the original's {plan.target} "
        f"({plan.asked:g} asked), layout {plan.layout}"
    )
    table = Table("", "FLOPs", "heads", "FFN width", "ranks", title=title)
    shares = {
        "vision": (found.original.vision, found.compressed.vision),
        "projector": (found.original.projector, found.compressed.projector),
        "language": (found.original.prefill, found.compressed.prefill),
    }
    for spec in found.specs:
        a, b = shares[spec.name]
        layers = plan.towers.get(spec.name)
        if layers is None:
            table.add_row(spec.name, f"{b / a:.3f}", "untouched", "untouched", "untouched")
            continue
        ranks = [
            r
            for layer in layers
            for r in (*layer.ranks.values(), *layer.attention_ranks.values())
            if r is not None
        ]
        table.add_row(
            spec.name,
            f"{b / a:.3f}",
            _span([len(layer.heads) for layer in layers], spec.heads) if spec.attention else "-",
            _span([layer.ffn_width or spec.ffn_width for layer in layers], spec.ffn_width),
            f"{min(ranks)}-{max(ranks)}, {len(ranks)} matrices" if ranks else "all dense",
        )
    whole = found.compressed.prompt / found.original.prompt
    table.add_row("whole prompt", f"{whole:.3f}", "", "", "")
    return table


def _span(values: list[int], of: int) -> str:
    low, high = min(values), max(values)
    return f"{low if low == high else f'{low}-{high}'} of {of}"


def cost_line(spent: Spent) -> str:
    """What the run cost."""
    stages = ", ".join(f"{name} {seconds:.1f}" for name, seconds in spent.seconds.items())
    device = f", {_gb(spent.peak_device_bytes)} on the GPU" if spent.peak_device_bytes else ""
    return (
        f"Cost of this run: {spent.total_s:.1f} s ({stages}); "
        f"peak memory {_gb(spent.peak_memory_bytes)}{device}."
    )


def _gb(count: int) -> str:
    return f"{count / 1e9:.2f} GB"
