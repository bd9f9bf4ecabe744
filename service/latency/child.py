"""The measuring process: `python -m service.latency.child FOLDER`.

Reads `settings.json`, starts vLLM, writes `ready`, then answers `N.command.json` with `N.answer.json`,
N = 0, 1, ...; files appear by a rename. It ends when it finds `stop`, or with its guard.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

from compressor.work import write_text
from service.latency.protocol import Answer, Command, EngineSettings, Run, Workload

_POLL_S = 0.02


def main(folder: Path) -> None:
    """Serve commands until told to stop."""
    settings = EngineSettings.model_validate_json((folder / "settings.json").read_text())
    engine = start(settings)
    write_text(folder / "ready", "")
    number = 0
    while not (folder / "stop").exists():
        path = folder / f"{number}.command.json"
        if not path.exists():
            time.sleep(_POLL_S)
            continue
        answer = obey(engine, Command.model_validate_json(path.read_text()))
        write_text(folder / f"{number}.answer.json", answer.model_dump_json())
        number += 1


def start(settings: EngineSettings) -> Any:
    """vLLM's offline engine, without the caches that would answer a request for the model."""
    from vllm import LLM

    share = settings.memory_share
    options: dict[str, Any] = {} if share is None else {"gpu_memory_utilization": share}
    if settings.decode_graphs:
        # Level 0 leaves modules as they are: 32 layers of 32 shapes would take minutes to compile.
        options["compilation_config"] = {"mode": 0, "cudagraph_mode": "FULL_DECODE_ONLY"}
    return LLM(
        **options,
        model=settings.model,
        dtype=settings.dtype,
        max_model_len=settings.max_model_len,
        max_num_seqs=settings.max_num_seqs,
        max_num_batched_tokens=settings.max_num_batched_tokens,
        seed=settings.seed,
        load_format=settings.load_format,
        # Hooks do not run in compiled graphs.
        enforce_eager=not settings.decode_graphs,
        enable_prefix_caching=False,
        mm_processor_cache_gb=0,
        worker_extension_cls="service.latency.worker.TimingExtension",
    )


def obey(engine: Any, command: Command) -> Answer:
    """Do what a command says."""
    if command.projector is not None:
        work = command.projector
        found = engine.collective_rpc(
            "infoprune_projectors", args=(list(work.shapes), work.positions, work.repeats)
        )
        return Answer(projector_s=tuple(found[0]))
    assert command.workload is not None
    return Answer(runs=tuple(answer_all(engine, command.workload)))


def answer_all(engine: Any, workload: Workload) -> list[Run]:
    """Answer a workload as often as it says, after the warm-ups."""
    from vllm import SamplingParams

    sampling = SamplingParams(
        temperature=0, max_tokens=workload.new_tokens, ignore_eos=True, detokenize=False
    )
    if workload.timed:
        engine.collective_rpc("infoprune_start")
    found = []
    for number in range(workload.warmups + workload.repeats):
        prompts = [_prompt(workload) for _ in range(workload.batch)]
        start = time.perf_counter()
        answers = engine.generate(prompts, sampling, use_tqdm=False)
        seconds = time.perf_counter() - start
        events = engine.collective_rpc("infoprune_collect")[0] if workload.timed else {}
        tokens = len(answers[0].prompt_token_ids)
        if number >= workload.warmups:
            found.append(Run(seconds=seconds, events=events, prompt_tokens=tokens))
    if workload.timed:
        engine.collective_rpc("infoprune_stop")
    return found


def _prompt(workload: Workload) -> Any:
    """The prompt with a picture of noise that no cache has seen."""
    import numpy as np
    from PIL import Image

    prompt: dict[str, Any] = {"prompt_token_ids": list(workload.prompt)}
    if workload.image_size is not None:
        width, height = workload.image_size
        pixels = np.random.default_rng().integers(0, 256, (height, width, 3), dtype=np.uint8)
        prompt["multi_modal_data"] = {"image": Image.fromarray(pixels)}
    return prompt


# vLLM spawns its engine, which imports this module again.
if __name__ == "__main__":
    main(Path(sys.argv[1]))
