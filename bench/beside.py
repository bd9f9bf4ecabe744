"""What clients feel of a compression on the same machine: `make bench-beside`.

One vLLM worker serves the bundled model to `--clients` clients, alone and while a job compresses it; in
turns by jobs that do not give way (`INFOPRUNE_JOB_NICENESS=0`) and by jobs that do, the default. Prints
a table, leaves `runs/bench/beside.json`, and puts the table into docs/results.md.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import aiohttp
import numpy as np
from rich.console import Console
from rich.table import Table

from bench.machine import describe
from bench.page import markdown, write_results
from compressor.evaluate.datasets import Example, examples
from service.demo.client import ServiceClient
from service.jobs.runner import original_entry
from service.settings import Settings
from service.supervisor import Supervisor
from service.telemetry import configure_logging
from service.workers.manager import free_port

RESULT = Path("runs/bench/beside.json")
MODEL = Path("models/shapes-llava")
BLOCK = 200
"""Questions between one look at the job and the next."""
RECIPE = {
    "flops": 0.3125,
    "calibration": {"datasets": ["easy-vqa", "drawn-text", "drawn-scenes"], "samples": 512},
    "evaluation": {"samples": 0},
}
NICENESS = (0, 10)


@dataclass(frozen=True)
class Felt:
    """What clients felt in one round."""

    p50_s: float
    p95_s: float
    rps: float

    @classmethod
    def of(cls, latencies: Sequence[float], seconds: float) -> Felt:
        """Of a block's answers."""
        p50, p95 = np.percentile(latencies, [50, 95])
        return cls(float(p50), float(p95), len(latencies) / seconds)


@dataclass(frozen=True)
class Round:
    """A job, and the time just before it."""

    niceness: int
    alone: Felt
    beside: Felt
    job_s: float


def main() -> None:
    """Rounds by both kinds of job in turn, then the table."""
    args = _arguments()
    configure_logging(level="error")
    asked = examples("easy-vqa", "test", samples=BLOCK, seed=2026)
    rounds: list[Round] = []
    for number in range(args.rounds):
        for niceness in NICENESS:
            rounds.append(one_round(asked, niceness, args.clients))
            found = rounds[-1]
            sys.stderr.write(
                f"round {number + 1}, niceness {niceness}: p50 {1000 * found.alone.p50_s:.1f} -> "
                f"{1000 * found.beside.p50_s:.1f} ms, job {found.job_s:.0f} s\n"
            )
    RESULT.parent.mkdir(parents=True, exist_ok=True)
    content = {
        "machine": describe(),
        "clients": args.clients,
        "rounds": [asdict(r) for r in rounds],
    }
    RESULT.write_text(json.dumps(content, indent=1) + "\n")
    shown = table(rounds, args.clients)
    Console().print(shown)
    write_results("beside", f"{markdown(shown)}\n\n{describe()}.", content)


def one_round(asked: Sequence[Example], niceness: int, clients: int) -> Round:
    """A fresh service, a block alone, then blocks for as long as a job runs."""
    with tempfile.TemporaryDirectory(prefix="beside-") as place:
        settings = Settings(
            run_dir=Path(place), port=free_port(), auth="off", job_niceness=niceness,
            worker_log_requests=False, log_level="error", cache_dir=Path(place) / "cache",
        )  # fmt: skip
        with served(settings, MODEL):
            return asyncio.run(_measure(settings, asked, clients))


@contextmanager
def served(settings: Settings, model: Path) -> Iterator[None]:
    """The whole service with one model."""
    stopped = threading.Event()
    supervisor = Supervisor(settings, [original_entry(model.name, model)])
    try:
        supervisor.start()
        threading.Thread(target=supervisor.run, args=(stopped,), daemon=True).start()
        yield
    finally:
        stopped.set()
        supervisor.stop()


async def _measure(settings: Settings, asked: Sequence[Example], clients: int) -> Round:
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=300)) as http:
        client = ServiceClient(settings.gateway_url, http)
        async for _ in client.wait_ready(MODEL.name, timeout_s=300):
            pass
        await _block(client, asked, clients)  # the engine's first requests allocate
        alone = await _block(client, asked, clients)
        record = await client.submit(MODEL.name, RECIPE)
        started = asyncio.get_running_loop().time()
        blocks: list[Felt] = []
        while (await client.job(record["id"]))["status"] in {"queued", "running"}:
            blocks.append(await _block(client, asked, clients))
        seconds = asyncio.get_running_loop().time() - started
    # The last block saw the job's end and the new model's worker start.
    during = blocks[:-1] or blocks
    beside = Felt(
        *(statistics.median(getattr(b, name) for b in during) for name in Felt.__dataclass_fields__)
    )
    return Round(settings.job_niceness, alone, beside, seconds)


async def _block(client: ServiceClient, asked: Sequence[Example], clients: int) -> Felt:
    answers, seconds = await client.ask_all(MODEL.name, asked, concurrency=clients)
    return Felt.of([answer.latency_s for answer in answers], seconds)


def table(rounds: Sequence[Round], clients: int) -> Table:
    """Ratios beside the job over alone, the median over rounds. Pure."""
    columns = ("job", "p50, alone", "p50, beside", "ratio", "p95", "requests/s", "job takes")
    shown = Table(*columns, title=f"{clients} clients while a job compresses the same model")
    for niceness in NICENESS:
        own = [r for r in rounds if r.niceness == niceness]

        def ratio(name: str, own: Sequence[Round] = own) -> str:
            ratios = [getattr(r.beside, name) / getattr(r.alone, name) for r in own]
            return f"{statistics.median(ratios):.2f}"

        shown.add_row(
            f"niceness {niceness}" + (" (the default)" if niceness else ": does not give way"),
            f"{1000 * statistics.median(r.alone.p50_s for r in own):.1f} ms",
            f"{1000 * statistics.median(r.beside.p50_s for r in own):.1f} ms",
            ratio("p50_s"), ratio("p95_s"), ratio("rps"),
            f"{statistics.median(r.job_s for r in own):.0f} s",
        )  # fmt: skip
    return shown


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3, help="of each kind, in turn")
    parser.add_argument("--clients", type=int, default=4)
    return parser.parse_args()


if __name__ == "__main__":
    main()
