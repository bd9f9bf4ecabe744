"""Write the trained model as a hub checkpoint: bf16 safetensors, hub names, processor, model card."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors.torch import save_file
from transformers import AutoProcessor

from compressor.checkpoint import write_json, writing
from compressor.evaluate.datasets import examples
from compressor.evaluate.metrics import Interval, bootstrap
from compressor.evaluate.runner import score_examples
from compressor.families import family_of
from compressor.loading import load
from models.training.architecture import build_config, save_processor

if TYPE_CHECKING:
    from models.training.schedule import Schedule
    from models.training.train import Trainee


def publish(model: Trainee, schedule: Schedule, run: Path, out: Path) -> Interval:
    """Write `out`, test what was written on easy-vqa's test split, and say so in the card.

    The test split is used here only, after training. Returns the accuracy with its interval.
    """
    config = build_config(model.tokenizer).to_dict()
    config |= {"architectures": ["LlavaForConditionalGeneration"], "dtype": "bfloat16"}
    for section in ("vision_config", "text_config"):
        config[section]["dtype"] = "bfloat16"
    hub_name = family_of(config).hub_name
    tensors = {
        hub_name(name): tensor.to(torch.bfloat16).contiguous()
        for name, tensor in model.llava.state_dict().items()
    }
    with writing(out) as directory:
        save_processor(directory, model.tokenizer)
        write_json(directory / "config.json", config)
        write_json(
            directory / "generation_config.json",
            {
                "bos_token_id": model.tokenizer.bos_token_id,
                "eos_token_id": model.tokenizer.eos_token_id,
                "pad_token_id": model.tokenizer.pad_token_id,
            },
        )
        save_file(tensors, directory / "model.safetensors", metadata={"format": "pt"})
        accuracy = measure(directory)
        shutil.copyfile(run / "log.jsonl", directory / "training_log.jsonl")
        card = model_card(accuracy, schedule, curve(run / "log.jsonl"))
        (directory / "README.md").write_text(card)
    return accuracy


def measure(directory: Path) -> Interval:
    """Accuracy of a checkpoint on the whole test split of easy-vqa, generated greedily."""
    asked = examples("easy-vqa", "test")
    scores = score_examples(
        load(directory, dtype=torch.float32), AutoProcessor.from_pretrained(directory), asked
    )
    return bootstrap(scores)


def curve(log: Path) -> list[tuple[int, float, float]]:
    """(step, answer loss, accuracy on held-out training images) wherever it was measured."""
    records = [json.loads(line) for line in log.read_text().splitlines()]
    return [
        (r["step"] + 1, r["answer_loss"], r["held_out_accuracy"])
        for r in records
        if "held_out_accuracy" in r
    ]


def phase_rows(schedule: Schedule) -> str:
    """Rows of the card's table of phases; a phase of the tower asks nothing."""
    rows = []
    for phase in schedule.phases:
        before = 0.0
        for until, mix in phase.mixes:
            steps = round((until - before) * phase.steps)
            before = until
            asked = (
                "- | - | -"
                if phase.tower
                else f"{mix.questions} | {mix.presence_share:.0%} | {mix.negated_share:.0%}"
            )
            name = "tower" if phase.tower else "answers"
            rows.append(f"| {name} | {steps} | {mix.images} | {asked} |")
    return "\n".join(rows)


def model_card(
    accuracy: Interval, schedule: Schedule, points: list[tuple[int, float, float]]
) -> str:
    """README.md of the bundled model."""
    thinned = points[:: max(1, len(points) // 20)]
    rows = "\n".join(f"| {step} | {loss:.4f} | {held:.4f} |" for step, loss, held in thinned)
    return f"""---
license: apache-2.0
pipeline_tag: image-text-to-text
library_name: transformers
datasets: [easy-vqa]
---
# shapes-llava

A LLaVA (CLIP tower, two-layer projector, Llama decoder) of 13.9 M parameters that answers questions
about one coloured shape in a 64x64 picture. It is a real model of the real architecture, small
enough to be served, compressed and compared on two CPU cores; it knows nothing else.

Its size was chosen so that model compute, not the engine's overhead, is most of a request: 76 % of the
latency of a lone request and 85 % of the busy time under load on two CPU cores. `python -m
bench.compute_share` measures it, by serving the same model with its layers taken out.

**Accuracy on easy-vqa's test split: {accuracy.value:.4f}** [{accuracy.low:.4f}, {accuracy.high:.4f}]
(95 % bootstrap interval, n={accuracy.n}), greedy, with the suffix "Answer the question using a single
word or phrase.", weights rounded to bf16, computed in float32. The test split was used once, by the
script that wrote this card, and never for training or for choosing anything.

## Data
- 25 % of the images: easy-vqa 1.0's training split (MIT licence), without its last 200 images, which
  give the curve below.
- 75 %: images of the same kind drawn without end by `models/training/shapes.py`.

## Training
`make train-model`, AdamW, peak learning rate {schedule.peak_lr:g}, seed {schedule.seed}; in each
phase the rate warms up, stays and falls to 0. The tower learns alone first (shape and colour read by
linear probes, dropped afterwards), then is frozen while projector and decoder learn to answer:

| phase | steps | images a step | questions an image | of them yes/no | of these negated |
|---|---|---|---|---|---|
{phase_rows(schedule)}

Trained on two CPU cores. The whole log is `training_log.jsonl`.

| step | loss of answers | accuracy, held-out training images |
|---|---|---|
{rows}

Licence: Apache-2.0, as the project.
"""
