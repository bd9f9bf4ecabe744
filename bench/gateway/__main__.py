"""What a gateway adds: `make bench-gateway`, or `python -m bench.gateway --quick`.

Every contender runs on one core; the fake engine and the load generator share another one. Cases: one
client and 32, a body of 1 KB and one with a picture of 300 KB; the first token of a stream; 1,000
streams at one time; growth of memory. Writes runs/bench/gateway.json and, but for --quick and --only,
its table in docs/results.md.
"""

from __future__ import annotations

import argparse
import base64
import io
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from PIL import Image
from redis import Redis
from rich.console import Console
from rich.table import Table

from bench.gateway import contenders
from bench.gateway.contenders import Contender
from bench.machine import describe
from bench.page import markdown, write_results
from service.keys import KeyStore
from service.settings import Settings
from service.store import EmbeddedValkey
from service.workers.manager import free_port
from service.workers.process import GuardedProcess
from tests.support.servers import answers, wait_until

OUT = Path("runs/bench/gateway.json")
GATEWAY_CORE, LOAD_CORE = 0, 1
CASES = [("1 KB", 1), ("1 KB", 32), ("300 KB", 1), ("300 KB", 32)]


def bodies(directory: Path) -> dict[str, Path]:
    """Requests of the two sizes, and one for a stream."""
    noise = np.random.default_rng(0).integers(0, 256, (274, 274, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(noise).save(file, "PNG")
    url = "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()
    image = [{"type": "image_url", "image_url": {"url": url}}]
    question = [{"type": "text", "text": "What is this? " * 60}]
    found = {}
    for name, content, extra in (
        ("1 KB", question, {}),
        ("300 KB", image + question, {}),
        ("stream", question, {"stream": True}),
    ):
        body = {"model": "tiny", **extra, "messages": [{"role": "user", "content": content}]}
        found[name] = directory / name.replace(" ", "")
        found[name].write_bytes(json.dumps(body).encode())
    return found


@contextmanager
def started(contender: Contender, log: Path) -> Iterator[GuardedProcess]:
    """A contender on its core, until the block ends."""
    command = ["taskset", "-c", str(GATEWAY_CORE), *contender.command]
    process = GuardedProcess(command, env={**os.environ, **contender.environment}, log=log)
    try:
        wait_until(lambda: answers(contender.port, contender.health), timeout_s=300)
        yield process
    finally:
        process.stop()


def load(
    port: int, key: str, body: Path, clients: int, requests: int, *, stream: bool = False
) -> dict[str, Any]:
    """One run of the load generator."""
    command = [sys.executable, "-m", "bench.gateway.load", "--core", str(LOAD_CORE), "--port",
               str(port), "--key", key, "--clients", str(clients), "--requests", str(requests),
               "--body", str(body)]  # fmt: skip
    done = subprocess.run(
        [*command, *(["--stream"] if stream else [])], capture_output=True, text=True, check=True
    )
    return json.loads(done.stdout)


def memory_bytes(process: GuardedProcess) -> int:
    """Resident memory of all that a contender is made of; the guard is not."""
    children = psutil.Process(process.pid).children(recursive=True)
    return sum(child.memory_info().rss for child in children)


def cpu_seconds(process: GuardedProcess | None) -> float:
    """Processor time of a contender so far: what it costs whatever else the machine does."""
    if process is None:
        return float("nan")
    times = [c.cpu_times() for c in psutil.Process(process.pid).children(recursive=True)]
    return sum(t.user + t.system for t in times)


def measure(
    port: int,
    key: str,
    texts: dict[str, Path],
    scale: float,
    process: GuardedProcess | None = None,
) -> dict[str, Any]:
    """All cases but memory."""
    found: dict[str, Any] = {}
    for size, clients in CASES:
        requests = max(
            20, int((2000 if size == "1 KB" else 600) * scale * (1 if clients == 1 else 3))
        )
        load(port, key, texts[size], clients, max(clients, requests // 10))  # warm
        before = cpu_seconds(process)
        run = load(port, key, texts[size], clients, requests)
        found[f"{size}, {clients}"] = {
            "p50_s": statistics.median(run["latencies_s"]) if run["latencies_s"] else None,
            "per_s": len(run["latencies_s"]) / run["seconds"],
            "cpu_s_each": (cpu_seconds(process) - before) / requests,
            "errors": run["errors"],
        }
    load(port, key, texts["stream"], 1, 10, stream=True)  # warm
    run = load(port, key, texts["stream"], 1, max(3, int(200 * scale)), stream=True)
    found["first token"] = {"p50_s": statistics.median(run["first_s"]) if run["first_s"] else None}
    many = max(20, int(1000 * scale))
    run = load(port, key, texts["stream"], many, many, stream=True)
    found["streams"] = {"at_once": many, "errors": run["errors"], "seconds": run["seconds"]}
    return found


def growth(process: GuardedProcess, port: int, key: str, body: Path, requests: int) -> float:
    """Bytes that a contender grew by over so many requests, after it was warm."""
    load(port, key, body, 32, max(32, requests // 10))
    before = memory_bytes(process)
    load(port, key, body, 32, requests)
    return memory_bytes(process) - before


def build_table(report: dict[str, Any]) -> Table:
    """Rows are cases, columns contenders; ratios are ours against each."""
    names = list(report["contenders"])
    assert "infoprune" in names, "ratios are to ours"
    table = Table("", *names, title="What a gateway adds, one core each")
    direct = report["direct"]
    for size, clients in CASES:
        case = f"{size}, {clients}"
        added = {
            name: (found[case]["p50_s"] or float("nan")) - direct[case]["p50_s"]
            for name, found in report["contenders"].items()
        }
        own = "infoprune"
        if clients == 1:
            row = [f"{1e3 * added[n]:.2f} ms ({added[n] / added[own]:.2f})" for n in names]
            table.add_row(f"added p50, 1 client, {size} (times ours)", *row)
            continue
        table.add_row(
            f"processor time a request, {clients} clients, {size}",
            *(f"{1e6 * report['contenders'][n][case]['cpu_s_each']:.0f} us" for n in names),
        )
        rate = {name: found[case]["per_s"] for name, found in report["contenders"].items()}
        row = [f"{rate[n]:,.0f} ({rate[own] / rate[n]:.2f})" for n in names]
        table.add_row(f"requests/s, {clients} clients, {size} (ours / it)", *row)
    first = {n: found["first token"]["p50_s"] for n, found in report["contenders"].items()}
    base = direct["first token"]["p50_s"]
    row = [f"{1e3 * (first[n] - base):.2f} ms" if first[n] else "-" for n in names]
    table.add_row("added to the first token, p50", *row)
    streams = [found["streams"] for found in report["contenders"].values()]
    table.add_row("streams at once", *(f"{f['at_once']}, {f['errors']} errors" for f in streams))
    grown = [found.get("growth_bytes") for found in report["contenders"].values()]
    table.add_row(
        "growth of memory", *("-" if g is None else f"{g / 2**20:+.1f} MiB" for g in grown)
    )
    return table


def run(args: argparse.Namespace, stack: ExitStack) -> dict[str, Any]:
    """Start everything, measure one contender after another."""
    directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
    texts = bodies(directory)
    store = EmbeddedValkey(directory / "valkey", log=directory / "valkey.log")
    redis_url = store.start()
    stack.callback(store.stop)
    upstream_port = free_port()
    upstream = f"http://127.0.0.1:{upstream_port}"
    command = [sys.executable, "-m", "bench.gateway.upstream", "--port", str(upstream_port),
               "--core", str(LOAD_CORE)]  # fmt: skip
    engine = GuardedProcess(command, env=os.environ, log=directory / "upstream.log")
    stack.callback(engine.stop)
    wait_until(lambda: answers(upstream_port, "/health"))
    settings = Settings(redis_url=redis_url, run_dir=directory / "run")
    keys = KeyStore(Redis.from_url(redis_url))
    made = {
        "infoprune": lambda: contenders.ours(free_port(), upstream, settings, keys),
        "bare": lambda: contenders.bare(free_port(), upstream),
        "vllm-router": lambda: contenders.vllm_router(free_port(), upstream),
        "litellm": lambda: contenders.litellm(free_port(), upstream, directory),
    }
    report: dict[str, Any] = {
        "direct": measure(upstream_port, "unused", texts, args.scale),
        "contenders": {},
    }
    for name in args.only or made:
        contender = made[name]()
        print(f"measuring {contender.name}", file=sys.stderr, flush=True)
        with started(contender, args.logs / f"{name}.log") as process:
            # vllm-router says that it is healthy before it has found its worker.
            one = (contender.port, contender.key, texts["1 KB"], 1, 1)
            wait_until(partial(_answers, *one))
            found = measure(contender.port, contender.key, texts, args.scale, process)
            slow = name == "litellm"  # at its pace 100,000 requests would take a quarter of an hour
            requests = int(args.growth * (0.05 if slow else 1))
            if requests:
                found["growth_bytes"] = growth(
                    process, contender.port, contender.key, texts["1 KB"], requests
                )
                found["growth_requests"] = requests
        report["contenders"][contender.name] = found
    return report


def _answers(*load_arguments: Any) -> bool:
    return not load(*load_arguments)["errors"]


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small counts: does it work at all?")
    parser.add_argument("--only", nargs="*", help="infoprune, bare, vllm-router, litellm")
    args = parser.parse_args()
    args.scale, args.growth = (0.1, 500) if args.quick else (1.0, 100_000)
    args.logs = OUT.parent / "logs"
    started_at = time.time()
    with ExitStack() as stack:
        report = run(args, stack)
    report |= {"pinned": contenders.PINNED, "scale": args.scale, "time": started_at}
    OUT.parent.mkdir(parents=True, exist_ok=True)
    OUT.write_text(json.dumps(report, indent=2) + "\n")
    table = build_table(report)
    Console().print(table)
    if not args.quick and not args.only:
        write_results("gateway", f"{markdown(table)}\n\n{describe()}.", report)


if __name__ == "__main__":
    main()
