"""Two engines side by side, of which one computes at a time."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from service.latency.engine import EngineProcess
from service.latency.protocol import Command, EngineSettings, Run, Workload

# vLLM's idle worker spins for a second before it sleeps.
IDLE_S = 1.5


@dataclass(frozen=True)
class Rivals:
    """An original and a compressed model in equal engines."""

    original: EngineProcess
    compressed: EngineProcess

    def pair(self, workload: Workload, *, swapped: bool) -> tuple[Run, Run]:
        """One run of each, (original, compressed); `swapped`: the compressed one goes first."""
        order = [self.original, self.compressed]
        found = {}
        for engine in reversed(order) if swapped else order:
            time.sleep(IDLE_S)
            found[engine] = engine.ask(Command(workload=workload)).runs
        return found[self.original][-1], found[self.compressed][-1]

    def blocks(self, workload: Workload, *, swapped: bool) -> tuple[list[float], list[float]]:
        """Seconds of all repeats of a workload, by each engine in one go."""
        order = [self.original, self.compressed]
        found = {}
        for engine in reversed(order) if swapped else order:
            time.sleep(IDLE_S)
            runs = engine.ask(Command(workload=workload)).runs
            found[engine] = [run.seconds for run in runs]
        return found[self.original], found[self.compressed]


@contextmanager
def rivals(
    models: tuple[Path, Path], settings: dict[str, Any], logs: Path, **process: Any
) -> Iterator[Rivals]:
    """Start both, one after the other."""
    with ExitStack() as stack:
        engines = [
            stack.enter_context(
                EngineProcess(
                    EngineSettings(model=str(model), **settings),
                    log=logs / f"{model.name}.log",
                    **process,
                )
            )
            for model in models
        ]
        yield Rivals(*engines)
