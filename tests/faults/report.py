"""The table of docs/reliability.md from the figures that the fault tests kept.

python -m tests.faults.report            prints it
python -m tests.faults.report --write    puts it into docs/reliability.md
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from bench.page import placed
from tests.faults.figures import DIRECTORY, Figures, kept
from tests.support.servers import ROOT

PAGE = ROOT / "docs" / "reliability.md"
HEAD = "| fault | back to normal | answers | lost | slowest | streams | ended with an error event |"


def table(figures: Sequence[Figures]) -> str:
    """Markdown: a row for each fault, and where they were measured. Pure."""
    rows = [
        f"| {one.fault}{f' ({one.remark})' if one.remark else ''} | {_seconds(one.recovered_s)} "
        f"| {_count(one.requests)} | {_count(one.lost)} | {_seconds(one.slowest_s)} "
        f"| {_count(one.streams)} | {_count(one.told)} |"
        for one in figures
    ]
    return "\n".join([HEAD, "|---|" + "---:|" * 6, *rows, "", _where(figures)])


def _where(figures: Sequence[Figures]) -> str:
    machines = [one.machine for one in figures]
    cores, loads = {m.cores for m in machines}, [m.load_average for m in machines]
    days = sorted({m.when for m in machines})
    return (
        f"Measured {days[0]} to {days[-1]} on {'/'.join(map(str, sorted(cores)))} core(s) "
        f"({machines[0].system}), with a load average of {min(loads):g} to {max(loads):g}: where it\n"
        "is over the number of cores, other programs ran beside the tests, and times are longer for it."
    )


def _seconds(value: float | None) -> str:
    return "" if value is None else f"{value:.1f} s"


def _count(value: int | None) -> str:
    return "" if value is None else str(value)


def main(arguments: Sequence[str]) -> int:
    """Print or write; 1 where there are no figures yet."""
    figures = kept()
    if not figures:
        sys.stderr.write(f"There are no figures in {DIRECTORY}; run make test-faults first.\n")
        return 1
    if "--write" in arguments:
        PAGE.write_text(placed(PAGE.read_text(), "figures", table(figures)))
    else:
        sys.stdout.write(table(figures) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
