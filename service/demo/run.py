"""The demo from start to end."""

from __future__ import annotations

import asyncio
import json
import shutil
import threading
from collections.abc import Coroutine, Mapping, Sequence
from pathlib import Path
from typing import Any

import aiohttp
from rich.console import Console
from rich.progress import (
    BarColumn,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from compressor.bar import ProgressBar
from compressor.evaluate.datasets import Example, examples
from compressor.evaluate.endpoint import chat_request
from compressor.recipe import Recipe
from service.command import connect_store
from service.demo.client import ServiceClient
from service.demo.measure import compare
from service.demo.report import build_report, build_table
from service.evaluations.keep import keep
from service.jobs.runner import original_entry
from service.registry import Registry
from service.settings import Settings
from service.supervisor import Supervisor, check_port, lock_directory
from service.telemetry import configure_logging

SEED = 2026  # of the questions asked here; the job's own evaluation draws others
EVALUATION = "demo"
LATENCY_SAMPLES = 300  # fifteen of them decide the p95


def run_demo(
    settings: Settings,
    model: Path,
    *,
    recipe: Recipe,
    samples: int,
    once: bool,
    stopped: threading.Event,
) -> None:
    """Start everything, compress, compare; then stay up until `stopped`, or end if `once`.

    Raises:
        ServiceError: one sentence on what went wrong. Everything is stopped in any case.
    """
    console = Console()
    check_port(settings.host, settings.port)
    start_afresh(settings.run_dir)
    configure_logging(settings.run_dir / "logs" / "supervisor.log", level=settings.log_level)
    with console.status("looking at the model"):
        entry = original_entry(model.resolve().name, model)
    supervisor = Supervisor(settings, [entry])
    try:
        supervisor.start()
        console.print(f"Gateway {settings.gateway_url}  ·  logs {settings.run_dir}/logs")
        keeper = threading.Thread(target=supervisor.run, args=(stopped,), daemon=True)
        keeper.start()
        asked = {
            name: examples(name, "test", samples=samples, seed=SEED)
            for name in recipe.evaluation.datasets
        }
        registry = Registry(connect_store(settings))
        session = _session(settings, registry, entry.name, recipe, asked, console)
        report = _run_until(stopped, session)
        if report is not None:
            write_report(settings.run_dir / "report.json", report)
            console.print(build_table(report))
            if not once:
                _invite(console, settings, report, next(iter(asked.values()))[0])
                stopped.wait()
    finally:
        stopped.set()
        with console.status("stopping"):
            supervisor.stop()


def start_afresh(run_dir: Path) -> None:
    """Remove what an earlier demo left: its models would be served again, each by a worker.

    Raises:
        RunDirectoryInUseError: that demo still runs.
    """
    run_dir.mkdir(parents=True, exist_ok=True)
    with lock_directory(run_dir):
        for name in ("valkey", "models", "logs"):
            shutil.rmtree(run_dir / name, ignore_errors=True)


def _run_until(
    stopped: threading.Event, work: Coroutine[Any, Any, dict[str, Any]]
) -> dict[str, Any] | None:
    """Run a coroutine; None if `stopped` was set before it ended."""

    async def watch() -> dict[str, Any] | None:
        task = asyncio.create_task(work)
        while not task.done() and not stopped.is_set():
            await asyncio.wait({task}, timeout=0.2)
        if task.done():
            return task.result()
        task.cancel()
        return None

    return asyncio.run(watch())


async def _session(
    settings: Settings,
    registry: Registry,
    name: str,
    recipe: Recipe,
    asked: Mapping[str, Sequence[Example]],
    console: Console,
) -> dict[str, Any]:
    """What a client does: wait, compress, wait, ask both."""
    bar = ProgressBar(
        SpinnerColumn(),
        TextColumn("{task.description:<34}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f}%"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=console,
    )
    timeout = aiohttp.ClientTimeout(total=settings.request_timeout_s)
    async with aiohttp.ClientSession(timeout=timeout) as http:
        client = ServiceClient(settings.gateway_url, http)
        with bar:
            await _wait_ready(client, name, settings, bar)
            given = recipe.model_dump(mode="json", exclude_unset=True)
            record = await client.submit(name, given)
            compressed = await _follow_job(client, record["id"], bar)
            # Or the service would evaluate it by itself, with fewer questions, once it is ready.
            registry.update_model(
                compressed, lambda entry: entry.model_copy(update={"evaluation": EVALUATION})
            )
            await _wait_ready(client, compressed, settings, bar)
            number = sum(map(len, asked.values()))
            task = bar.add_task(f"ask both {number} questions", total=1.0)
            found = await compare(
                client, (name, compressed), asked, latency_samples=LATENCY_SAMPLES,
                advance=lambda share: bar.update(task, completed=share),
            )  # fmt: skip
        keep(registry, found.accuracy, found.difference, evaluation=EVALUATION)
        models = await client.models()
    return build_report((models[name], models[compressed]), found.sides, found.mean_difference)


async def _wait_ready(
    client: ServiceClient, name: str, settings: Settings, bar: ProgressBar
) -> None:
    task = bar.add_task(f"start {name}", total=None)
    async for state in client.wait_ready(name, timeout_s=settings.worker_start_timeout_s):
        bar.update(task, description=f"{name}: {state}"[:60])
    bar.update(task, description=f"{name} is served", total=1, completed=1)


async def _follow_job(client: ServiceClient, job_id: str, bar: ProgressBar) -> str:
    """Show a job's stages; returns the name of its model."""
    task = bar.add_task("compress: queued", total=100.0)
    name = ""
    async for job in client.follow(job_id):
        name = job["name"]
        stage = job["stage"] or job["status"]
        bar.update(task, description=f"compress: {stage}", completed=job["percent"])
    bar.update(task, description=f"compressed to {name}", completed=100.0)
    return name


def write_report(path: Path, report: dict[str, Any]) -> None:
    """Replace the report in one rename."""
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(report, indent=2) + "\n")
    temporary.replace(path)


def _invite(console: Console, settings: Settings, report: dict[str, Any], example: Example) -> None:
    """What to try next."""
    request = (settings.run_dir / "request.json").resolve()
    body = chat_request(report["compressed"]["model"], example)
    request.write_text(json.dumps(body) + "\n")
    url = settings.gateway_url
    console.print(
        f"\nWeb page {url}/: compare, ask both, compress\nTerminal infoprune top --url {url}\n"
        f"Report   {settings.run_dir}/report.json\nAPI docs {url}/docs\nMetrics  {url}/metrics\n"
        f"\nAsk the compressed model ({example.question!r}):"
    )
    console.print(
        f"  curl -sS {url}/v1/chat/completions -H 'content-type: application/json' -d @{request}",
        soft_wrap=True,
    )
    console.print("\nCtrl-C stops everything.")
