"""Greedy tokens of a checkpoint from vLLM, in a process of its own: `python -m ... JOB ANSWERS`.

JOB is a JSON object: `model`, `dtype`, `max_tokens`, `requests` of `prompt` and `image` (a path), and
`options` for vLLM's `LLM`.
ANSWERS is written as a list of `prompt_ids`, `token_ids` and `logprobs` ({token id: value} a token).
"""

from __future__ import annotations

import json
import sys
from pathlib import Path


def main(job_path: Path, answers_path: Path) -> None:
    """Start an engine, answer all requests in one batch, write the answers."""
    from PIL import Image
    from vllm import LLM, SamplingParams

    job = json.loads(job_path.read_text())
    engine = LLM(
        model=job["model"], dtype=job["dtype"], max_model_len=256, max_num_seqs=8, seed=0,
        **{"enforce_eager": True, **job.get("options", {})},
    )  # fmt: skip
    sampling = SamplingParams(
        temperature=0, max_tokens=job["max_tokens"], ignore_eos=True, logprobs=5,
        logit_bias=dict.fromkeys(job["never"], -100.0),
    )  # fmt: skip
    prompts = [
        {"prompt": r["prompt"], "multi_modal_data": {"image": Image.open(r["image"])}}
        for r in job["requests"]
    ]
    answers = [
        {
            "prompt_ids": list(answer.prompt_token_ids),
            "token_ids": list(answer.outputs[0].token_ids),
            "logprobs": [
                {str(token): float(entry.logprob) for token, entry in step.items()}
                for step in answer.outputs[0].logprobs
            ],
        }
        for answer in engine.generate(prompts, sampling)
    ]
    answers_path.write_text(json.dumps(answers))


# vLLM spawns its engine, which imports this module again.
if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
