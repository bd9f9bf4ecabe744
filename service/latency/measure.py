"""The latency table of a model on this machine: from the cache, or measured once in vLLM."""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from compressor.latency.cache import read_table, write_table
from compressor.latency.probe import DEEP, Probe, Timings, open_probe, table_of, write_probe
from compressor.latency.table import LatencyTable, Seconds
from service.latency.engine import EngineProcess, engine_identity
from service.latency.protocol import Command, EngineSettings, ProjectorWork, Workload
from service.latency.times import layer_timings, module_times, rest_of, spread_of

Progress = Callable[[float], None]
"""Hears the share that is done; may raise to stop."""

DECODED = 8
_SECONDS_A_WORKLOAD = 20.0
_REPEATS = (5, 30)
_START_S = 60.0  # only moves the progress bar


def latency_table(
    model: Path, cache: Path, *, progress: Progress = lambda share: None, again: bool = False
) -> LatencyTable:
    """The table of a model for this machine's serving engine.

    Args:
        model: directory of an original.
        cache: where tables are kept.
        progress: hears of the measurement.
        again: measure even where there is a table.

    Raises:
        CompressorError: it is not a model, or not one of a family that can be measured.
        LatencyError: the engine did not start or broke off.
    """
    probe, identity = open_probe(model), engine_identity()
    path = table_path(cache, probe.key(identity))
    table = None if again else read_table(path)
    if table is None:
        timings = measure(probe, identity.dtype, path.with_suffix(".log"), progress)
        table = table_of(probe, timings, identity)
        write_table(path, table)
    progress(1.0)
    return table


def table_path(cache: Path, key: str) -> Path:
    """Where the table of a key is kept."""
    return cache / "latency" / f"{key}.json"


def measure(probe: Probe, dtype: str, log: Path, progress: Progress) -> Timings:
    """Serve a probe once and time all of its layers."""
    with tempfile.TemporaryDirectory(prefix="infoprune-probe-") as folder:
        directory = Path(folder) / "probe"
        progress(0.0)
        write_probe(probe, directory)
        begun = time.monotonic()

        def waiting() -> None:
            # Twice the time looks like two thirds of the way.
            elapsed = time.monotonic() - begun
            progress(0.9 * elapsed / (elapsed + _START_S))

        with EngineProcess(
            engine_settings(probe, directory, dtype),
            log=log,
            kv_cache_gib=kv_cache_gib(probe),
            waiting=waiting,
        ) as engine:
            return time_probe(probe, engine)


def time_probe(probe: Probe, engine: EngineProcess) -> Timings:
    """Ask a running engine for all times of a probe."""
    trial = engine.ask(Command(workload=_workload(probe, DECODED + 1, repeats=1, warmups=3)))
    repeats = round(_SECONDS_A_WORKLOAD / max(trial.runs[0].seconds, 1e-3))
    repeats = min(max(repeats, _REPEATS[0]), _REPEATS[1])
    prefills = engine.ask(Command(workload=_workload(probe, 1, repeats=repeats))).runs
    decodes = engine.ask(Command(workload=_workload(probe, DECODED + 1, repeats=repeats))).runs
    projectors = engine.ask(
        Command(
            projector=ProjectorWork(
                shapes=tuple(s.model_dump_json() for s in probe.shapes["projector"]),
                positions=probe.request.visual_tokens,
            )
        )
    )
    prefill = module_times(prefills, 1, 1)
    decode = module_times(decodes, 1, DECODED + 1)
    return Timings(
        layers={
            tower: layer_timings(prefill, decode, tower, len(probe.shapes[tower])) for tower in DEEP
        },
        projector=tuple(Seconds(prefill_s=seconds) for seconds in projectors.projector_s),
        rest=rest_of(prefills, decodes, DECODED + 1),
        runs=repeats,
        spread=max(spread_of(prefills), spread_of(decodes)),
    )


def _workload(probe: Probe, new_tokens: int, *, repeats: int, warmups: int = 1) -> Workload:
    return Workload(
        prompt=probe.prompt,
        image_size=probe.image_size,
        new_tokens=new_tokens,
        warmups=warmups,
        repeats=repeats,
        timed=True,
    )


def request_tokens(probe: Probe) -> int:
    """Positions of the longest request that is timed."""
    return probe.request.visual_tokens + probe.request.text_tokens + DECODED + 1


def engine_settings(probe: Probe, directory: Path, dtype: str) -> EngineSettings:
    """An engine for single requests to the probe."""
    tokens = request_tokens(probe)
    return EngineSettings(
        model=str(directory),
        dtype=dtype,
        max_model_len=tokens + 16,
        max_num_batched_tokens=max(4096, tokens + 16),
    )


def kv_cache_gib(probe: Probe) -> int:
    """Whole GiB that hold a request's keys and values in float32, twice over."""
    spec = next(spec for spec in probe.specs if spec.name == "language")
    heads = sum(len(shape.kv_heads) for shape in probe.shapes["language"])
    return math.ceil(2 * 2 * 4 * heads * spec.head_dim * request_tokens(probe) / 2**30)
