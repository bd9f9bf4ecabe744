"""Accuracy of served models on a dataset's whole test split, asked by the stock OpenAI client.

    make demo                    # in another terminal
    .venv/bin/python -m bench.gateway_accuracy --models shapes-llava shapes-llava-flops0.5

Prints JSON: accuracy of each model, and the paired difference of the second to the first, with 95 %
bootstrap intervals over questions.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import json
import sys
from typing import Any

import openai

from compressor.evaluate.datasets import Example, examples
from compressor.evaluate.metrics import bootstrap, paired, score

CONCURRENCY = 8


def message(example: Example) -> Any:
    """The user's message: the image as a data URL, and the question."""
    image = base64.b64encode(example.png()).decode()
    content = [
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{image}"}},
        {"type": "text", "text": example.prompt},
    ]
    return {"role": "user", "content": content}


async def ask(client: openai.AsyncOpenAI, model: str, example: Example) -> float:
    """1.0 or 0.0."""
    answer = await client.chat.completions.create(
        model=model, messages=[message(example)], max_tokens=16, temperature=0
    )
    return score(answer.choices[0].message.content or "", example.answers, example.metric)


async def ask_all(url: str, model: str, asked: list[Example]) -> list[float]:
    """Scores in order; says on standard error how far it is."""
    slots = asyncio.Semaphore(CONCURRENCY)
    done = 0
    async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="unused") as client:

        async def one(example: Example) -> float:
            nonlocal done
            async with slots:
                score = await ask(client, model, example)
            done += 1
            if done % 500 == 0:
                print(f"{model}: {done} of {len(asked)}", file=sys.stderr, flush=True)
            return score

        return list(await asyncio.gather(*(one(example) for example in asked)))


def main() -> None:
    """Print the comparison."""
    parser = argparse.ArgumentParser(description="Accuracy through the gateway.")
    parser.add_argument("--url", default="http://127.0.0.1:8080")
    parser.add_argument("--models", nargs=2, required=True, metavar=("ORIGINAL", "COMPRESSED"))
    parser.add_argument("--dataset", default="easy-vqa")
    parser.add_argument("--samples", type=int, default=None, help="by default the whole split")
    args = parser.parse_args()
    asked = examples(args.dataset, "test", samples=args.samples)
    scores = {model: asyncio.run(ask_all(args.url, model, asked)) for model in args.models}
    first, second = scores.values()
    pictures = [example.group for example in asked]
    report = {model: bootstrap(found, groups=pictures).to_json() for model, found in scores.items()}
    difference = bootstrap(paired(first, second), groups=pictures)
    print(json.dumps({**report, "difference": difference.to_json()}, indent=2))


if __name__ == "__main__":
    main()
