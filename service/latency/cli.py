"""`infoprune latency`: measure or show what layers of every shape take on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from compressor.bar import ProgressBar
from compressor.cli import errors_in_one_sentence
from compressor.latency.table import Curve, LatencyTable
from service.settings import Settings


def latency(
    model: Annotated[Path, typer.Argument(help="Directory of an original.")],
    again: Annotated[
        bool, typer.Option("--again", help="Measure even where there is a table.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the table as JSON.")] = False,
) -> None:
    """Measure, once, what a model's layers of every shape take in vLLM on this machine.

    The recipe's target `latency` is counted by this table; it is kept in INFOPRUNE_CACHE_DIR. Measure
    while nothing else runs.
    """
    with errors_in_one_sentence():
        from service.latency.measure import latency_table

        bar = ProgressBar(
            SpinnerColumn(), TextColumn("measuring"), BarColumn(), TimeElapsedColumn(),
            console=Console(stderr=True),
        )  # fmt: skip
        with bar:
            task = bar.add_task("measure", total=1.0)
            table = latency_table(
                model,
                Settings().cache_dir,
                progress=lambda share: bar.update(task, completed=share),
                again=again,
            )
    if table.doubt:
        typer.echo(f"infoprune: {table.doubt}", err=True)
    if as_json:
        typer.echo(table.model_dump_json(indent=2))
    else:
        Console().print(rendered(table))


def rendered(table: LatencyTable) -> Table:
    """The table for a terminal: milliseconds in the prefill and a decoded token."""
    request, identity = table.request, table.identity
    shown = Table(
        "",
        "size",
        "prefill, ms",
        "a decoded token, ms",
        title=f"{table.architecture} in {identity.engine} on {identity.device}, {identity.dtype}",
        caption=(
            f"{request.visual_tokens} visual and {request.text_tokens} text tokens; medians of "
            f"{table.runs} requests"
        ),
    )

    def add(name: str, curve: Curve) -> None:
        for size, seconds in zip(curve.sizes, curve.seconds, strict=True):
            prefill, decode = 1e3 * seconds.prefill_s, 1e3 * seconds.decode_s
            shown.add_row(name, str(size), f"{prefill:.3f}", f"{decode:.3f}")
        shown.add_section()

    for name, tower in table.towers.items():
        if tower.attention is not None:
            add(f"{name}: attention, KV groups", tower.attention)
        if tower.windowed is not None:
            add(f"{name}: windowed attention, KV groups", tower.windowed)
        add(f"{name}: FFN, width", tower.ffn_width)
        for matrix, curve in tower.ffn_rank.items():
            add(f"{name}: FFN, rank of {matrix}", curve)
        add(f"{name}: rest of a layer", Curve(sizes=(1,), seconds=(tower.rest,)))
    add("outside all layers", Curve(sizes=(1,), seconds=(table.rest,)))
    return shown
