"""What a fault cost, kept as JSON under `runs/faults/`, one file a fault; `report.py` makes a table."""

from __future__ import annotations

import json
import os
import platform
import re
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

from tests.support.servers import ROOT

DIRECTORY = Path(os.environ.get("INFOPRUNE_FAULTS_DIR", ROOT / "runs" / "faults"))


@dataclass(frozen=True)
class Machine:
    """Where and when it was measured. Times of a busy machine are long."""

    cores: int
    system: str
    load_average: float
    """Of the last minute, at the test's end: processes that want a core."""
    when: str


def this_machine() -> Machine:
    """This one, now."""
    when = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime())
    system = f"{platform.system()} {platform.machine()}"
    return Machine(len(os.sched_getaffinity(0)), system, round(os.getloadavg()[0], 1), when)


@dataclass(frozen=True)
class Figures:
    """Of one fault. What does not apply is None."""

    fault: str
    recovered_s: float | None = None
    """From the fault's end, or the death, until everything is as before."""
    requests: int | None = None
    """Answered that did not stream, while it lasted and around it."""
    lost: int | None = None
    """Of these and of the streams: no answer, a wrong status, or a stream that ended in silence."""
    slowest_s: float | None = None
    streams: int | None = None
    told: int | None = None
    """Streams that had begun and ended with an error event."""
    remark: str = ""
    machine: Machine = field(default_factory=this_machine)


_TAKEN: list[Figures] = []


def record(figures: Figures) -> None:
    """Keep them."""
    DIRECTORY.mkdir(parents=True, exist_ok=True)
    name = re.sub(r"[^a-z0-9]+", "-", figures.fault.lower()).strip("-")
    (DIRECTORY / f"{name}.json").write_text(json.dumps(asdict(figures), indent=1) + "\n")
    _TAKEN.append(figures)


def taken() -> list[Figures]:
    """Those of this run."""
    return list(_TAKEN)


def kept(directory: Path = DIRECTORY) -> list[Figures]:
    """Those of all runs, by name."""
    found = [json.loads(path.read_text()) for path in sorted(directory.glob("*.json"))]
    return [Figures(**(one | {"machine": Machine(**one["machine"])})) for one in found]
