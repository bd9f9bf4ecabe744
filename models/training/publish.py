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
from models.training.batches import KINDS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from models.training.schedule import Schedule
    from models.training.train import Trainee


def publish(model: Trainee, schedule: Schedule, run: Path, out: Path) -> dict[str, Interval]:
    """Write `out`, test what was written on the test splits, and say so in the card.

    The test splits are used here only, after training. Returns the accuracies with their intervals.
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


def measure(directory: Path) -> dict[str, Interval]:
    """Accuracy of a checkpoint on the whole test split of each dataset, generated greedily."""
    model = load(directory, dtype=torch.float32)
    processor = AutoProcessor.from_pretrained(directory)
    found = {}
    for name in KINDS:
        asked = examples(name, "test")
        scores = score_examples(model, processor, asked)
        found[name] = bootstrap(scores, groups=[example.group for example in asked])
    return found


def curve(log: Path) -> list[dict[str, float]]:
    """The records with accuracies on held-out pictures, wherever they were measured."""
    records = [json.loads(line) for line in log.read_text().splitlines()]
    return [r for r in records if KINDS[0] in r]


def phase_rows(schedule: Schedule) -> str:
    """Rows of the card's table of phases; a phase of the tower alone asks nothing."""
    rows = []
    for phase in schedule.phases:
        before = 0.0
        for until, mix in phase.mixes:
            steps = round((until - before) * phase.steps)
            before = until
            drawn = f"{mix.reading_share:.0%} | {mix.scenes_share:.0%}"
            asked = (
                "- | -"
                if phase.tower == "alone"
                else f"{mix.questions} | {'yes' if phase.align else 'no'}"
            )
            rows.append(f"| {phase.tower} | {steps} | {mix.images} | {drawn} | {asked} |")
    return "\n".join(rows)


def model_card(
    accuracy: Mapping[str, Interval], schedule: Schedule, points: Sequence[Mapping[str, float]]
) -> str:
    """README.md of the bundled model."""
    thinned = points[:: max(1, len(points) // 20)]
    curves = "\n".join(
        f"| {r['step'] + 1:.0f} | {r['answer_loss']:.4f} | "
        + " | ".join(f"{r[name]:.3f}" for name in KINDS)
        + " |"
        for r in thinned
    )
    tested = "\n".join(
        f"| {name} | {i.value:.4f} [{i.low:.4f}, {i.high:.4f}] | {i.n} |"
        for name, i in accuracy.items()
    )
    mean = sum(i.value for i in accuracy.values()) / len(accuracy)
    return Path(__file__).with_name("card.md").read_text().format(
        tested=tested, mean=mean, peak=schedule.peak_lr, seed=schedule.seed,
        phases=phase_rows(schedule), names=" | ".join(KINDS), curves=curves,
    )  # fmt: skip
