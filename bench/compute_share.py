"""How much of a request's time is the model's compute, and how much the engine's overhead?

    .venv/bin/python -m bench.compute_share

Serves, one after the other, the bundled model and a LLaVA with the same tokenizer, prompt and number
of visual tokens whose layers are next to nothing (width 16, one layer each). What the second takes is
overhead; what the first takes more is compute. Prints JSON: medians, and the share of compute.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import aiohttp
import torch
from safetensors.torch import save_file
from transformers import LlavaForConditionalGeneration

from compressor.checkpoint import write_json
from compressor.evaluate.datasets import Example, examples
from compressor.families import family_of
from models.training.architecture import build_config, build_tokenizer, save_processor
from service.demo.client import ServiceClient
from service.registry import Flops, ModelEntry
from service.settings import Settings
from service.workers.machine import this_machine
from service.workers.manager import free_port, probe
from service.workers.process import GuardedProcess
from service.workers.vllm_command import worker_command, worker_environment

# A word and the end, which is what the bundled model answers; a hollow one would go on.
ANSWER = {"max_tokens": 2, "min_tokens": 2}


def write_hollow_model(directory: Path) -> None:
    """A LLaVA of the bundled one's shape outside and almost nothing inside."""
    tokenizer = build_tokenizer()
    config = build_config(tokenizer)
    config.vision_config.update(
        {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 2,
         "num_attention_heads": 1}
    )  # fmt: skip
    config.text_config.update(
        {"hidden_size": 32, "intermediate_size": 16, "num_hidden_layers": 1,
         "num_attention_heads": 1, "num_key_value_heads": 1}
    )  # fmt: skip
    torch.manual_seed(0)
    model = LlavaForConditionalGeneration(config)
    content = config.to_dict() | {"architectures": ["LlavaForConditionalGeneration"]}
    hub_name = family_of(content).hub_name
    tensors = {hub_name(k): v.contiguous() for k, v in model.state_dict().items()}
    save_processor(directory, tokenizer)
    write_json(directory / "config.json", content)
    save_file(tensors, directory / "model.safetensors", metadata={"format": "pt"})


async def measure(url: str, name: str, asked: list[Example], repeats: int) -> dict[str, float]:
    """Median latency of single requests, and seconds a request with 8 clients at once."""
    async with aiohttp.ClientSession() as session:
        client = ServiceClient(url, session, ANSWER)
        await client.ask_all(name, asked, concurrency=8)
        latencies, busy = [], []
        for _ in range(repeats):
            alone, _ = await client.ask_all(name, asked, concurrency=1)
            latencies += [answer.latency_s for answer in alone]
            _, seconds = await client.ask_all(name, asked, concurrency=8)
            busy.append(seconds / len(asked))
    return {"latency_s": statistics.median(latencies), "busy_s": statistics.median(busy)}


def serve_and_measure(
    path: Path, asked: list[Example], repeats: int, logs: Path
) -> dict[str, float]:
    """Start a worker for a model, measure it, stop it."""
    nothing = Flops(
        vision=0, projector=0, prefill=0, decode_token=0, visual_tokens=0, text_tokens=0
    )
    entry = ModelEntry(name=path.name, path=str(path), variant="original", params=0, flops=nothing)
    machine, port = this_machine(), free_port()
    process = GuardedProcess(
        worker_command(entry, port, Settings(), machine),
        env=worker_environment(os.environ, machine),
        log=logs / f"{path.name}.log",
    )
    url = f"http://127.0.0.1:{port}"
    try:
        while not probe(url, entry.name):
            if process.poll() is not None:
                raise SystemExit(f"vLLM did not start; see {process.log}")
            time.sleep(0.5)
        return asyncio.run(measure(url, entry.name, asked, repeats))
    finally:
        process.stop()


def main() -> None:
    """Print the comparison."""
    parser = argparse.ArgumentParser(description="Share of compute in a request's time.")
    parser.add_argument("--model", type=Path, default=Path("models/shapes-llava"))
    parser.add_argument("--questions", type=int, default=40)
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args()
    asked = examples("easy-vqa", "test", samples=args.questions, seed=1)
    with tempfile.TemporaryDirectory() as temporary:
        hollow_path = Path(temporary) / "hollow"
        hollow_path.mkdir()
        write_hollow_model(hollow_path)
        logs = Path("runs/bench")
        full = serve_and_measure(args.model.resolve(), asked, args.repeats, logs)
        hollow = serve_and_measure(hollow_path, asked, args.repeats, logs)
    report: dict[str, Any] = {
        "model": full,
        "hollow": hollow,
        "compute_share": {k: 1 - hollow[k] / full[k] for k in full},
        "cores": this_machine().cores,
    }
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
